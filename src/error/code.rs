//! The codes that callers see, each with what it means and who can do something about it.

/// Declares the codes once: the sentence is the variant's documentation and stands in the table of `ARCHITECTURE.md`.
macro_rules! codes {
    ($(#[doc = $meaning:tt] $variant:ident = $text:literal, $who:literal;)+) => {
        /// What went wrong, for programs: `extensions.code` in GraphQL, `code` in a problem document. A closed set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)+
        }

        impl Code {
            /// Every code, in the order in which they are documented.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The code as callers see it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// What happened, as a sentence.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning.trim_ascii(),)+
                }
            }

            /// Who can do something about it.
            pub const fn who_acts(self) -> &'static str {
                match self {
                    $(Self::$variant => $who,)+
                }
            }
        }
    };
}

codes! {
    /// The document is not GraphQL.
    ParseFailed = "GRAPHQL_PARSE_FAILED", "the caller";
    /// The document does not fit the schema.
    ValidationFailed = "GRAPHQL_VALIDATION_FAILED", "the caller";
    /// The document holds no operation of that name, or several and no name was given.
    OperationNotFound = "OPERATION_NOT_FOUND", "the caller";
    /// Selections or values are nested deeper than `serviceInfo.limits` allows.
    TooDeep = "QUERY_TOO_DEEP", "the caller";
    /// The operation would cost more than `serviceInfo.limits` allows.
    TooComplex = "QUERY_TOO_COMPLEX", "the caller";
    /// The document, its variables or the body are larger than `serviceInfo.limits` allows.
    TooLarge = "QUERY_TOO_LARGE", "the caller";
    /// A value breaks a rule; for an argument `field` and `reason` say which (`CURSOR_EXPIRED`: start over).
    BadInput = "BAD_USER_INPUT", "the caller";
    /// What was asked for does not exist, or not for this caller.
    NotFound = "NOT_FOUND", "the caller";
    /// The caller shows no key, or one that does not open.
    Unauthenticated = "UNAUTHENTICATED", "the caller";
    /// The web page's origin, or the caller, may not.
    Forbidden = "FORBIDDEN", "the caller";
    /// The method is not served here; mutations need POST.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", "the caller";
    /// None of the media types that the caller accepts can be given.
    NotAcceptable = "NOT_ACCEPTABLE", "the caller";
    /// The body is not JSON in UTF-8.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", "the caller";
    /// A subscription needs `text/event-stream` or a WebSocket.
    StreamNeeded = "SUBSCRIPTION_NEEDS_STREAM", "the caller";
    /// More was asked for at once than one caller may have; `retryAfter`, where given, is in seconds.
    RateLimited = "RATE_LIMITED", "wait";
    /// A host of the network is away, or answers wrongly.
    Upstream = "UPSTREAM_UNAVAILABLE", "try again";
    /// A part of the gateway is away, or it is too busy.
    Unavailable = "SERVICE_UNAVAILABLE", "try again";
    /// The operation was stopped because it took too long.
    Timeout = "TIMEOUT", "ask for less";
    /// A mistake of the gateway; `errorId` finds it in the log.
    Internal = "INTERNAL", "the operator";
}
