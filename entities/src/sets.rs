//! Closed sets of column values. The database stores the lower-case text.

use sea_orm::entity::prelude::*;

macro_rules! set {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
        #[sea_orm(rs_type = "String", db_type = "Text")]
        pub enum $name {
            $($(#[$variant_doc])* #[sea_orm(string_value = $text)] $variant,)+
        }

        impl $name {
            /// The text that the database stores; also fit for logs and metric labels.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

set! {
    /// Where an event or RSVP comes from.
    SourceType {
        /// Created in OpenMeet.
        Openmeet = "openmeet",
        /// Ingested from the AT Protocol network.
        Bluesky = "bluesky",
        /// Ingested by a web scraper.
        Web = "web",
        /// Any other integration.
        Other = "other",
    }
}
set! {
    /// Lifecycle of an event.
    EventStatus {
        /// Not yet visible to others.
        Draft = "draft",
        /// Announced but not final.
        Planned = "planned",
        /// Will take place.
        Scheduled = "scheduled",
        /// Moved to another time.
        Rescheduled = "rescheduled",
        /// Put off without a new date.
        Postponed = "postponed",
        /// Will not take place.
        Cancelled = "cancelled",
    }
}
set! {
    /// How people attend.
    EventMode {
        /// At a place.
        InPerson = "in_person",
        /// Online.
        Virtual = "virtual",
        /// Both.
        Hybrid = "hybrid",
    }
}
set! {
    /// Who may see an event.
    EventVisibility {
        /// Everyone.
        Public = "public",
        /// Everyone with the link.
        Unlisted = "unlisted",
        /// Invited people.
        Private = "private",
    }
}
set! {
    /// Answer to an event.
    RsvpStatus {
        /// Going.
        Confirmed = "confirmed",
        /// Interested.
        Maybe = "maybe",
        /// Not going.
        Cancelled = "cancelled",
    }
}
set! {
    /// What happened to an event.
    ChangeOperation {
        /// It appeared.
        Created = "created",
        /// It changed.
        Updated = "updated",
        /// It went away.
        Deleted = "deleted",
    }
}
set! {
    /// How the event was found that a program's record tells of.
    MatchMethod {
        /// The source's identifier is known, or names a new event.
        SourceId = "source_id",
        /// An event of the same page and start.
        SourceUrl = "source_url",
        /// The record links to an event of its author.
        LinkBack = "link_back",
        /// An event of the same site, name, start and place.
        Fingerprint = "fingerprint",
    }
}
set! {
    /// How well a record follows its lexicon.
    Verdict {
        /// To the letter.
        Valid = "valid",
        /// Readable, with the deviations listed.
        Lenient = "lenient",
        /// Kept, but nothing can be made of it.
        Unreadable = "unreadable",
    }
}
set! {
    /// What the last check of a handle found.
    HandleStatus {
        /// Not checked yet.
        Unknown = "unknown",
        /// Both directions agree.
        Verified = "verified",
        /// The DID document and the handle's domain disagree; shown as `handle.invalid`.
        Invalid = "invalid",
    }
}
set! {
    /// Status of an account at its host.
    AccountStatus {
        /// Takes part in the network.
        Active = "active",
        /// Switched off by its owner.
        Deactivated = "deactivated",
        /// Switched off by its host for a while.
        Suspended = "suspended",
        /// Switched off by its host.
        Takendown = "takendown",
        /// Gone.
        Deleted = "deleted",
        /// Inactive for a reason that this gateway has no name for.
        Inactive = "inactive",
    }
}
set! {
    /// What became of a failed message.
    FailureState {
        /// Waits for a person.
        Parked = "parked",
        /// Was sent through the pipeline again, with success.
        Resolved = "resolved",
        /// Was given up by a person.
        Discarded = "discarded",
    }
}
set! {
    /// What a member may do in the tenant.
    UserRole {
        /// Takes part.
        Member = "member",
        /// Administers the tenant, too.
        Admin = "admin",
    }
}
set! {
    /// How a session's token is shown.
    SessionKind {
        /// As a cookie, by a browser.
        Cookie = "cookie",
        /// In a header, by a program.
        Bearer = "bearer",
    }
}
set! {
    /// What was done to an account.
    AuditAction {
        /// A member signed in for the first time.
        Joined = "joined",
        /// A shadow account became its owner's, or was merged into an account of its owner.
        Claimed = "claimed",
        /// An account of the network was linked to a member.
        Linked = "linked",
        /// The link was cut.
        Disconnected = "disconnected",
        /// A shadow account was made by hand.
        ShadowCreated = "shadow_created",
        /// Two shadow accounts became one.
        ShadowMerged = "shadow_merged",
        /// A shadow account on which nothing hung was deleted.
        ShadowDeleted = "shadow_deleted",
        /// The role of a member was changed.
        RoleChanged = "role_changed",
    }
}
