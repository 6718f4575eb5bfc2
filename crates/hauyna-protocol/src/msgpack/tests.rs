//! Tests of the walker and of the writer's headers.

use super::token::{Malformed, Tokens};
use super::*;
use crate::{
    Encoding,
    fields::{Field, Fields},
    write::Writer,
};

fn skip(bytes: &[u8], depth: usize) -> Result<usize, Malformed> {
    let mut tokens = Tokens::new(bytes);
    tokens.skip(depth).map(|()| tokens.position())
}

#[test]
fn a_value_ends_where_its_last_item_ends() {
    assert_eq!(skip(b"\x93\x01\x92\x02\x03\x80\xff", 2), Ok(6));
    assert_eq!(skip(b"\x82\xa1a\x81\xa1b\x01\xa1c\x90\xff", 2), Ok(10));
    assert_eq!(skip(b"\x90\xff", 1), Ok(1));
}

#[test]
fn every_marker_is_one_value_or_refused() {
    for marker in 0..=u8::MAX {
        let mut bytes = vec![marker];
        bytes.extend_from_slice(&[0; 64]);
        if matches!(marker, 0x81..=0x8f) {
            assert_eq!(skip(&bytes, 1), Err(Malformed::NameIsNoText), "{marker:#x}");
            continue;
        }
        let expected = match marker {
            0xc1 => Err(Malformed::Reserved),
            0xc7..=0xc9 | 0xd4..=0xd8 => Err(Malformed::Extension),
            0x90..=0x9f => Ok(1 + usize::from(marker & 15)),
            0xa0..=0xbf => Ok(1 + usize::from(marker & 31)),
            0xc4 | 0xcc | 0xd0 | 0xd9 => Ok(2),
            0xc5 | 0xcd | 0xd1 | 0xda | 0xdc | 0xde => Ok(3),
            0xc6 | 0xca | 0xce | 0xd2 | 0xdb | 0xdd | 0xdf => Ok(5),
            0xcb | 0xcf | 0xd3 => Ok(9),
            _ => Ok(1),
        };
        assert_eq!(skip(&bytes, 1), expected, "{marker:#x}");
    }
}

#[test]
fn depth_is_refused_at_the_level_that_is_too_much() {
    assert_eq!(skip(b"\x91\x91\x01", 2), Ok(3));
    assert_eq!(skip(b"\x91\x91\x91\x01", 2), Err(Malformed::TooDeep));
    assert_eq!(skip(b"\x90", 0), Err(Malformed::TooDeep));
    assert_eq!(skip(b"\x01", 0), Ok(1));
}

#[test]
fn fields_before_a_fault_stay_collected() {
    let mut fields = Fields::new(Encoding::MessagePack);
    assert!(collect(b"\x82\xa2id\x07\xa7channel\xc1", 64, &mut fields).is_err());
    assert_eq!(fields.any(Field::Id).and_then(crate::Raw::as_u64), Some(7));
    assert!(fields.any(Field::Channel).is_none());
}

#[test]
fn a_map_grows_into_each_longer_header() {
    for (fields, more, header) in [(2u32, 3u32, 1), (14, 2, 3), (65_535, 1, 5)] {
        let mut map = b"before".to_vec();
        let start = map.len();
        let _ = rmp::encode::write_map_len(&mut map, fields);
        let body = b"\xa1a\x01".repeat(fields as usize);
        map.extend_from_slice(&body);
        extend_map(&mut map, start, more);
        map.extend_from_slice(&b"\xa1b\x02".repeat(more as usize));
        assert_eq!(skip(&map[start..], 1), Ok(header + 3 * (fields + more) as usize));
    }
}

#[test]
fn the_fields_of_an_inner_object_do_not_count_for_the_outer_one() {
    let mut out = Vec::new();
    PackWriter::new(&mut out).object(|w| {
        w.name("a");
        w.object(|w| {
            w.unsigned_field("x", 1);
            w.unsigned_field("y", 2);
        });
        w.boolean_field("b", true);
    });
    assert_eq!(out, b"\x82\xa1a\x82\xa1x\x01\xa1y\x02\xa1b\xc3");
}
