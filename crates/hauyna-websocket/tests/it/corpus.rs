//! Writes the seed corpora of the fuzz targets from the golden table, on request:
//! `cargo test -p hauyna-websocket --test it -- --ignored corpus`.

use std::fs;
use std::path::Path;

use hauyna_websocket::Role;

use crate::golden::table;
use crate::handshake::requests;

#[test]
#[ignore = "writes into fuzz/corpus"]
fn the_corpus_is_written_from_the_golden_table() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    for golden in table() {
        let role = u8::from(golden.role == Role::Client);
        if golden.deflate {
            // The payload of the first frame: its header is six bytes, four of them the key.
            let key = golden.input[2..6].iter().cycle();
            let payload: Vec<u8> = golden.input[6..].iter().zip(key).map(|(byte, key)| byte ^ key).collect();
            write("inflate", golden.name, &[&[0][..], &payload].concat());
        } else {
            write("frames", golden.name, &[&[role][..], &golden.input].concat());
        }
    }
    for (name, request) in requests() {
        write("handshake", name, &[&[7][..], request.as_bytes()].concat());
    }
}
