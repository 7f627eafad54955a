//! What granted scopes let us do for a person.

use crate::infra::atproto::oauth::Grants;

const EVENT: &str = "community.lexicon.calendar.event";
const RSVP: &str = "community.lexicon.calendar.rsvp";
/// Permission sets that a server may not have spelt out.
const SETS: &[(&str, &str)] = &[(
    "community.lexicon.calendar.authFull",
    "repo?collection=community.lexicon.calendar.event&collection=community.lexicon.calendar.rsvp",
)];
/// Images that events have.
const IMAGES: [&str; 3] = ["image/jpeg", "image/png", "image/webp"];

/// What a person may let us do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Publish, change and withdraw events.
    WriteEvents,
    /// Publish, change and withdraw answers.
    WriteRsvps,
    /// Upload images of events.
    UploadImages,
    /// Read the address.
    ReadEmail,
}

impl Ability {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::WriteEvents, Self::WriteRsvps, Self::UploadImages, Self::ReadEmail];
}

/// What an account lets us do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is granted or not, whatever the others are")]
pub struct Abilities {
    /// Publish, change and withdraw events.
    pub can_write_events: bool,
    /// Publish, change and withdraw answers.
    pub can_write_rsvps: bool,
    /// Upload images of events.
    pub can_upload_images: bool,
    /// Read the address.
    pub has_email: bool,
}

impl Abilities {
    /// Of scopes as a server says them.
    pub fn of(scope: &str) -> Self {
        let grants = Grants::read(scope, SETS);
        Self {
            can_write_events: grants.allows_all(EVENT),
            can_write_rsvps: grants.allows_all(RSVP),
            can_upload_images: IMAGES.iter().all(|image| grants.allows_upload(image)),
            has_email: grants.allows_email(),
        }
    }

    /// Those that were granted.
    pub fn granted(self) -> Vec<Ability> {
        self.filter(true)
    }

    /// Those that were not granted.
    pub fn missing(self) -> Vec<Ability> {
        self.filter(false)
    }

    fn filter(self, wanted: bool) -> Vec<Ability> {
        let granted = [self.can_write_events, self.can_write_rsvps, self.can_upload_images, self.has_email];
        Ability::ALL.into_iter().zip(granted).filter(|(_, is)| *is == wanted).map(|(ability, _)| ability).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::login::{EVERY_SCOPE, OLDER_SCOPE, SCOPE};

    #[test]
    fn what_is_asked_for_is_all_that_is_needed() {
        for scope in [SCOPE, OLDER_SCOPE, EVERY_SCOPE] {
            assert!(Abilities::of(scope).missing().is_empty(), "{scope}");
            assert!(scope.split(' ').all(|one| EVERY_SCOPE.split(' ').any(|known| known == one)), "{scope}");
        }
        assert_eq!(Abilities::of("atproto").missing(), Ability::ALL);
        assert_eq!(Abilities::of("atproto account:email").granted(), [Ability::ReadEmail]);
    }
}
