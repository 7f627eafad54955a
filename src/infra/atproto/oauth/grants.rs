//! What an account allows, read by meaning.
//!
//! Servers say what was granted in any of several ways: with permission sets spelt out, in another order, with some of the
//! actions only, or with the transitional scopes of older servers. Two texts that mean the same are the same here, and what
//! is not understood grants nothing.

use url::form_urlencoded;

/// What may be done with the records of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make one.
    Create,
    /// Change one.
    Update,
    /// Take one away.
    Delete,
}

impl Action {
    const ALL: [Self; 3] = [Self::Create, Self::Update, Self::Delete];

    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What an account allows.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    repos: Vec<(String, Vec<Action>)>,
    blobs: Vec<String>,
    has_email: bool,
    is_generic: bool,
}

impl Grants {
    /// Reads the scopes of an account. Of permission sets that are not spelt out those count which are known, by their names,
    /// with the scopes that they stand for.
    pub fn read(scope: &str, sets: &[(&str, &str)]) -> Self {
        let mut grants = Self::default();
        for one in scope.split_ascii_whitespace() {
            let included = one.strip_prefix("include:").and_then(|rest| {
                let name = rest.split('?').next()?;
                sets.iter().find(|(known, _)| *known == name).map(|(_, scopes)| *scopes)
            });
            match included {
                // Sets do not include sets.
                Some(scopes) => scopes.split_ascii_whitespace().for_each(|one| grants.add(one)),
                None => grants.add(one),
            }
        }
        grants
    }

    fn add(&mut self, one: &str) {
        let (name, query) = one.split_once('?').unwrap_or((one, ""));
        let (resource, positional) = name.split_once(':').map_or((name, None), |(r, p)| (r, Some(p)));
        let mut parameters: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        // What stands after the colon is the resource's main parameter, which then cannot be named again.
        let main = match resource {
            "repo" => "collection",
            "blob" => "accept",
            "account" => "attr",
            "transition" => {
                match positional {
                    Some("generic") => self.is_generic = true,
                    Some("email") => self.has_email = true,
                    _ => {}
                }
                return;
            }
            _ => return,
        };
        if let Some(positional) = positional {
            if parameters.iter().any(|(name, _)| name == main) {
                return;
            }
            let decoded = form_urlencoded::parse(format!("x={}", positional.replace('+', "%2B")).as_bytes())
                .next()
                .map(|(_, value)| value.into_owned());
            parameters.extend(decoded.map(|value| (main.to_owned(), value)));
        }
        let values = |wanted: &str| {
            parameters.iter().filter(|(name, _)| name == wanted).map(|(_, v)| v.clone()).collect::<Vec<_>>()
        };
        match resource {
            "repo" => {
                let named = values("action");
                let actions = if named.is_empty() {
                    Action::ALL.to_vec()
                } else {
                    Action::ALL.into_iter().filter(|action| named.iter().any(|one| one == action.as_str())).collect()
                };
                self.repos.extend(values(main).into_iter().map(|collection| (collection, actions.clone())));
            }
            "blob" => self.blobs.extend(values(main)),
            "account" => self.has_email |= values(main) == ["email"],
            _ => {}
        }
    }

    /// Whether records of a collection may be treated so.
    pub fn allows(&self, action: Action, collection: &str) -> bool {
        let fits = |(granted, actions): &(String, Vec<Action>)| {
            (granted == "*" || granted == collection) && actions.contains(&action)
        };
        self.is_generic || self.repos.iter().any(fits)
    }

    /// Whether records of a collection may be treated in every way.
    pub fn allows_all(&self, collection: &str) -> bool {
        Action::ALL.into_iter().all(|action| self.allows(action, collection))
    }

    /// Whether files of a media type may be uploaded.
    pub fn allows_upload(&self, media_type: &str) -> bool {
        let kind = media_type.split('/').next().unwrap_or_default();
        let fits = |granted: &String| {
            granted == "*/*" || granted.eq_ignore_ascii_case(media_type) || granted.strip_suffix("/*") == Some(kind)
        };
        self.is_generic || self.blobs.iter().any(fits)
    }

    /// Whether the account's address may be read.
    pub fn allows_email(&self) -> bool {
        self.has_email
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = "community.lexicon.calendar.event";
    const RSVP: &str = "community.lexicon.calendar.rsvp";
    const SETS: &[(&str, &str)] = &[(
        "community.lexicon.calendar.authFull",
        "repo?collection=community.lexicon.calendar.event&collection=community.lexicon.calendar.rsvp",
    )];

    /// Scope, then what follows: everything with events, everything with answers, PNG images, the address.
    #[test]
    fn the_same_is_understood_however_it_is_said() {
        let both = "repo?collection=community.lexicon.calendar.event&collection=community.lexicon.calendar.rsvp";
        let (all, none) = ([true; 4], [false; 4]);
        let repos = [true, true, false, false];
        let cases = [
            (format!("atproto {both} blob:image/* account:email"), all),
            (format!("account:email blob?accept=image/* {both} atproto"), all),
            ("atproto transition:generic transition:email".to_owned(), all),
            (format!("atproto repo:{EVENT} repo:{RSVP} blob:*/* account:email?action=read"), all),
            ("atproto repo:* blob:image/png account?attr=email".to_owned(), all),
            ("atproto include:community.lexicon.calendar.authFull?aud=did:web:a%23b".to_owned(), repos),
            (format!("atproto {both}&action=create&action=update&action=delete"), repos),
            (
                format!("atproto repo:{EVENT}?action=create repo:{EVENT}?action=update&action=delete"),
                [true, false, false, false],
            ),
            (format!("atproto repo:{EVENT}?action=create&action=update repo:{RSVP}"), [false, true, false, false]),
            ("atproto repo:community.lexicon.calendar.* blob:image".to_owned(), none),
            (format!("atproto repo:{EVENT}?collection={RSVP} blob:text/* account:status account:email2"), none),
            (format!("atproto repo:{EVENT}?action=sing include:org.example.unknown rpc:{EVENT}?aud=*"), none),
            (String::new(), none),
            ("repo: repo? ?? : blob:% account:%e2%82 transition: include: repo:?collection".to_owned(), none),
            ("atproto transition:genericc TRANSITION:GENERIC".to_owned(), none),
        ];
        for (scope, expected) in cases {
            let grants = Grants::read(&scope, SETS);
            let found = [
                grants.allows_all(EVENT),
                grants.allows_all(RSVP),
                grants.allows_upload("image/png"),
                grants.allows_email(),
            ];
            assert_eq!(found, expected, "{scope}");
        }
    }

    #[test]
    fn actions_are_granted_one_by_one() {
        let grants = Grants::read(&format!("atproto repo:{EVENT}?action=create&action=update"), SETS);
        assert_eq!(Action::ALL.map(|action| grants.allows(action, EVENT)), [true, true, false]);
    }
}
