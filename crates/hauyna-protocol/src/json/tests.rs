//! Tests of the depth check, the walk over fields, and the writer.

use super::check::{check_depth, count_openers};
use super::*;
use crate::{
    Encoding, Fault,
    fields::{Field, Fields},
    write::Writer,
};

#[test]
fn depth_is_counted_only_outside_of_texts() {
    assert_eq!(check_depth("[[1],[2]]", 2), Ok(()));
    assert_eq!(check_depth("[[1],[[2]]]", 2), Err(6));
    assert_eq!(check_depth(r#"["[[[\"[[[", "\\"]"#, 1), Ok(()));
    assert_eq!(check_depth(r#"["\\",[1]]"#, 1), Err(6));
}

#[test]
fn brackets_that_only_close_do_not_lend_depth() {
    assert_eq!(check_depth("]]]][[[", 2), Err(6));
}

#[test]
fn openers_are_counted_across_the_chunks_of_the_fast_path() {
    let text = format!("{}{{", "[ ".repeat(1000));
    assert_eq!(count_openers(text.as_bytes()), 1001);
    assert_eq!(count_openers(&[b'['; 300]), 300);
    assert_eq!(count_openers(br#"]}";:"#), 0);
}

#[test]
fn fields_before_a_fault_stay_collected() {
    let mut fields = Fields::new(Encoding::Json);
    assert!(collect(br#"{"id":7,"type":"x","channel":"#, 64, &mut fields).is_err());
    assert_eq!(fields.any(Field::Id).and_then(crate::Raw::as_u64), Some(7));
    assert!(fields.any(Field::Channel).is_none());
}

#[test]
fn fields_before_a_bracket_too_deep_stay_collected() {
    let mut fields = Fields::new(Encoding::Json);
    let fault = collect(br#"{"id":7,"x":[[1]],"channel":"a"}"#, 2, &mut fields).unwrap_err();
    assert_eq!(fault, Fault::too_deep(2));
    assert_eq!(fields.any(Field::Id).and_then(crate::Raw::as_u64), Some(7));
    assert!(fields.any(Field::Channel).is_none());
}

#[test]
fn a_field_with_an_escaped_name_is_found() {
    let mut fields = Fields::new(Encoding::Json);
    assert!(collect(br#"{"\u0069d":7}"#, 64, &mut fields).is_ok());
    assert_eq!(fields.any(Field::Id).and_then(crate::Raw::as_u64), Some(7));
}

#[test]
fn only_plain_digits_are_an_unsigned_integer() {
    assert_eq!(read_unsigned(b"18446744073709551615"), Some(u64::MAX));
    for text in ["18446744073709551616", "", "-1", "1.0", "1e1", "+1", "99999999999999999999999", "\"1\""] {
        assert_eq!(read_unsigned(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn every_character_is_written_as_serde_json_writes_it() {
    for character in (0..0x3000).filter_map(char::from_u32) {
        let text = format!("a{character}b");
        let mut out = Vec::new();
        write_text(&text, &mut out);
        let theirs: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(theirs, text);
        assert!(out.len() <= serde_json::to_string(&text).unwrap().len() + 4);
    }
}

#[test]
fn commas_stand_between_fields_however_deep() {
    let mut out = b"before".to_vec();
    let mut writer = JsonWriter::new(&mut out);
    writer.object(|w| {
        w.name("a");
        w.object(|_| {});
        w.name("b");
        w.array(&[1, 2], |w, item| w.object(|w| w.unsigned_field("i", *item)));
        w.text_field("c", "{");
        w.name("d");
        w.float(f64::NAN);
    });
    assert_eq!(out, br#"before{"a":{},"b":[{"i":1},{"i":2}],"c":"{","d":null}"#);
}
