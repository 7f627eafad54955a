//! Signing in, most of it at real PDSes, through their own pages, by the HTTP requests that a browser makes: whole logins
//! ([`whole`]), of apps ([`apps`]), and to link accounts ([`linking`]); what is refused ([`refused`], [`theft`]); sessions that are
//! renewed ([`renewal`], [`moving`], [`crash`]), and what happens to them meanwhile ([`lives`], [`scopes`]); the address that comes
//! with them ([`emails`]); and a server that lies ([`hostile`]). [`chromium`] signs in with a real browser, and [`leaving`] is about
//! the page from which people sign out.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

mod apps;
mod browser;
mod chromium;
mod crash;
mod emails;
mod hostile;
mod last;
mod leaving;
mod liar;
mod linking;
mod lives;
mod moving;
mod refused;
mod renewal;
mod scopes;
mod stand;
mod theft;
mod whole;
