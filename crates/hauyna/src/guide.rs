//! The guides of the project: a tutorial, and a page for each part. They are the files of `docs/` in the
//! repository, and their examples are compiled as doc tests.
//
// Only in the documentation and in doc tests. `docs/` holds symbolic links to the guides, so that they are
// packed with the crate. `guide/links.txt` is in front of each page: it says where the links lead here; on
// GitHub, the definitions at the end of the page do. A failing example has the name of its module, and its
// line counts from the first one of `links.txt`.

#[cfg(any(not(doctest), feature = "axum"))]
#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/tutorial.md")]
pub mod tutorial {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/channels.md")]
pub mod channels {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/routing.md")]
pub mod routing {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/events.md")]
pub mod events {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/presence.md")]
pub mod presence {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/groups.md")]
pub mod groups {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/state.md")]
pub mod state {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/states.md")]
pub mod states {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/sessions.md")]
pub mod sessions {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/errors.md")]
pub mod errors {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/validation.md")]
pub mod validation {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/contract.md")]
pub mod contract {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/deployment.md")]
pub mod deployment {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/operations.md")]
pub mod operations {}

#[doc = include_str!("guide/links.txt")]
#[doc = include_str!("../docs/from-the-original.md")]
pub mod from_the_original {}
