//! What a schema may not say: the build fails instead of making a codec that is wrong.

use crate::schema::Schema;

fn check(text: &str, expected: &str) {
    let error = Schema::parse("test", text).expect_err(text);
    assert!(
        error.contains(expected),
        "`{error}` does not say `{expected}`"
    );
}

#[test]
fn a_good_schema_is_measured() {
    let text = "data Outer 0-2 flexible 2+\n  inners []Inner 0+\n    a int32 0+\n    b string 1+\n";
    let schema = Schema::parse("test", text).unwrap();
    let message = &schema.messages[0];
    assert_eq!(
        message.find("Inner").unwrap().min_size,
        4,
        "version 0 has the four bytes of `a`"
    );
    assert_eq!(
        message.find("Outer").unwrap().min_size,
        2,
        "version 2 has two single bytes"
    );
}

#[test]
fn an_element_of_an_array_must_take_room() {
    let text = "data Outer 0-1\n  inners []Inner 0+\n    a int32 1+\n";
    check(text, "Outer.inners: an element can be empty");
}

#[test]
fn a_struct_must_not_contain_itself() {
    check(
        "data Outer 0\n  struct A\n    b []A 0+\n  a A 0+\n",
        "nested too deep",
    );
}

#[test]
fn tags_need_flexible_versions_and_their_own_numbers() {
    check(
        "data A 0-3 flexible 2+\n  a int8 1+ tag 0\n",
        "not flexible",
    );
    check(
        "data A 0 flexible 0+\n  a int8 0 tag 1\n  b int8 0 tag 1\n",
        "used twice",
    );
}

#[test]
fn records_are_nullable_and_untagged() {
    check("data A 0\n  a records 0+\n", "records are nullable");
    check(
        "data A 0 flexible 0+\n  a records 0+ nullable tag 0\n",
        "never tagged",
    );
}

#[test]
fn null_is_a_default_of_nullable_fields_only() {
    check(
        "data A 0\n  a string 0+ default null\n",
        "null is the default",
    );
}

#[test]
fn mistakes_are_named_with_their_line() {
    check(
        "data A 0\n  a int32\n",
        "2: a field has a name, a type and versions",
    );
    check("data A 0\n\n  a int23 0+\n", "3: unknown type `int23`");
    check("data A 0-3\n  a int32 4+\n", "2: versions `4+`");
    check(
        "data A 0\n  a int32 0+ nulable\n",
        "2: unknown attribute `nulable`",
    );
    check("data A 0\n   a int32 0+\n", "2: two spaces indent");
    check(
        "data A 0\n  a Missing 0+\n",
        "struct Missing is not defined",
    );
    check(
        "data A 0\n  a int8 0+\n      b int8 0+\n",
        "3: unexpected indentation",
    );
    check(
        "request 0\n",
        "1: a request or response needs an `api` line first",
    );
}
