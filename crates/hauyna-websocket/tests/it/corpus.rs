//! The seed corpora of the fuzz targets are the golden tables, so that each fuzzer starts from all known
//! faults. `HAUYNA_WRITE_CORPUS=1 cargo test -p hauyna-websocket corpus` writes them again.

use std::fs;
use std::path::Path;

use hauyna_websocket::Role;

use crate::golden::table;
use crate::handshake::requests;

#[test]
fn the_committed_corpora_are_the_golden_tables() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    if !corpus.is_dir() {
        return; // The crate is tested from its package, without the repository around it.
    }
    let write = std::env::var_os("HAUYNA_WRITE_CORPUS").is_some();
    let seed = |target: &str, name: &str, bytes: &[u8]| {
        let folder = corpus.join(target);
        if write {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(name), bytes).unwrap();
        }
        assert_eq!(fs::read(folder.join(name)).unwrap_or_default(), bytes, "{target}/{name} is out of date");
    };
    for golden in table() {
        let role = u8::from(golden.role == Role::Client);
        if golden.deflate {
            // The payload of the first frame: its header is six bytes, four of them the key.
            let key = golden.input[2..6].iter().cycle();
            let payload: Vec<u8> = golden.input[6..].iter().zip(key).map(|(byte, key)| byte ^ key).collect();
            seed("inflate", golden.name, &[&[0][..], &payload].concat());
        } else {
            seed("frames", golden.name, &[&[role][..], &golden.input].concat());
        }
    }
    for (name, request) in requests() {
        seed("handshake", name, &[&[7][..], request.as_bytes()].concat());
    }
}
