//! Tests of the program from outside: a child process and sockets.

#[cfg(test)]
mod bench;
#[cfg(test)]
mod common;
mod complaints;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod security;
#[cfg(test)]
mod threats_delivery;
#[cfg(test)]
mod threats_frames;
#[cfg(test)]
mod threats_http;
#[cfg(test)]
mod threats_limits;
#[cfg(test)]
mod threats_names;
#[cfg(test)]
mod threats_operations;
#[cfg(test)]
mod threats_output;
#[cfg(test)]
mod threats_presence;
#[cfg(test)]
mod threats_protocol;
#[cfg(test)]
mod threats_restart;
#[cfg(test)]
mod types;
