//! What every payload of a mutation has.

/// A payload: its own fields, and those that every payload has.
macro_rules! payload {
    (
        #[doc = $doc:tt] $name:ident {
            $($(#[$field_attribute:meta])* $field:ident: $ty:ty,)*
        }
    ) => {
        #[doc = $doc]
        #[derive(Debug, async_graphql::SimpleObject)]
        pub(crate) struct $name {
            $($(#[$field_attribute])* $field: $ty,)*
            /// Mistakes; empty on success.
            user_errors: Vec<$crate::api::graphql::user_error::UserError>,
            /// Read more in the same request, after the write.
            query: $crate::api::graphql::query::Query,
        }
    };
}
pub(super) use payload;
