//! A shard: the inbox, the subscriber lists and the task that writes to one share of the connections. The
//! lists belong to the hub, so the shard outlives any runtime, and every holder of the lock on `fanout` may
//! process what was posted. `task` drives it (in another runtime if `standby` finds it stopped), `fanout`
//! does the work in `segment`s within a `budget`, `congestion` makes publishers wait, and `members` holds the
//! subscribers.

mod budget;
mod congestion;
mod core;
mod expiries;
mod fanout;
mod members;
mod segment;
mod standby;
mod sweep;
mod task;
mod task_timeout;

pub(crate) use congestion::{Congestion, Shards};
pub(crate) use core::{FrameOrigin, Item, OrderedFrame, Shard, post_count_of_thread, repeat_post_count};
pub(crate) use expiries::Expiries;
pub(crate) use task::{set_home, yield_to_thread};
