//! Processes that are told to end in the middle of their work, each role alone: what was begun is finished, what was not begun is
//! left to others, and the process ends well within its grace. And who keeps it from ending, for how long.

mod api;
mod firehose;
mod process;
mod stand;
mod sweep;
mod unread;
