//! The program as the world sees it: a child process and sockets.

#[cfg(test)]
mod bench;
mod common;
mod security;
mod threats_delivery;
mod threats_frames;
mod threats_http;
mod threats_names;
mod threats_protocol;
