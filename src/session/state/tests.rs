use std::sync::Arc;

use super::*;

fn system(name: &str, value: &str) -> Change {
    Change::System(name.into(), Some(Value::Reported(value.as_bytes().into())))
}

fn text(set: &Option<Vec<u8>>) -> String {
    set.as_deref().map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
}

#[test]
fn the_same_state_costs_nothing() {
    let a = State::at_login(Some(b"shop"), Some(("utf8mb4", "utf8mb4_general_ci")));
    assert!(a.restore(&a.clone()).is_empty());
    assert!(a.restore(&State::at_login(Some(b"shop"), Some(("utf8mb4", "utf8mb4_general_ci")))).is_empty());
}

#[test]
fn what_differs_is_set_and_what_is_extra_goes_back_to_its_default() {
    let base = State::at_login(Some(b"shop"), Some(("utf8mb4", "utf8mb4_general_ci")));
    let have = base.changed(&[system("sql_mode", "ANSI_QUOTES"), system("max_join_size", "12345")]);
    let want = base.changed(&[system("time_zone", "+03:00"), Change::Schema(Some(b"other"[..].into()))]);
    let restore = have.restore(&want);
    assert_eq!(restore.schema.as_deref(), Some(&b"other"[..]));
    assert_eq!(text(&restore.system), "SET max_join_size=DEFAULT,sql_mode=DEFAULT,time_zone='+03:00'");
    assert_eq!(text(&want.restore(&have).system), "SET time_zone=DEFAULT,max_join_size=12345,sql_mode='ANSI_QUOTES'");
}

#[test]
fn what_default_would_turn_off_goes_back_to_the_global_value() {
    let base = State::at_login(Some(b"shop"), None);
    let have = base.changed(&[system("foreign_key_checks", "OFF"), system("sql_notes", "OFF"), system("unique_checks", "OFF")]);
    assert_eq!(
        text(&have.restore(&base).system),
        "SET foreign_key_checks=@@GLOBAL.foreign_key_checks,sql_notes=DEFAULT,unique_checks=@@GLOBAL.unique_checks"
    );
}

#[test]
fn a_charset_brings_its_default_collation_unless_one_is_named() {
    let latin = State::at_login(None, Some(("latin1", "latin1_swedish_ci")));
    let set_names = latin.changed(&[
        system("character_set_client", "utf8mb4"),
        system("character_set_connection", "utf8mb4"),
        system("character_set_results", "utf8mb4"),
    ]);
    assert_eq!(text(&latin.restore(&set_names).system), "SET NAMES utf8mb4");
    // Back: the collation must follow its charset, although a charset alone would do here.
    assert_eq!(text(&set_names.restore(&latin).system), "SET NAMES latin1 COLLATE latin1_swedish_ci");
    let with_collation =
        latin.changed(&[system("character_set_connection", "latin1"), system("collation_connection", "latin1_bin")]);
    let want = "SET NAMES latin1 COLLATE latin1_swedish_ci,collation_connection='latin1_bin'";
    assert_eq!(text(&latin.restore(&with_collation).system), want);
    // SET NAMES .. COLLATE gives results their collation, too.
    let named = with_collation.changed(&[Change::ResultsCollation(Some("latin1_bin".into()))]);
    assert_eq!(text(&latin.restore(&named).system), "SET NAMES latin1 COLLATE latin1_bin");
    let results = set_names.changed(&[system("character_set_results", "utf16"), system("character_set_connection", "latin1")]);
    assert_eq!(
        text(&latin.restore(&results).system),
        "SET character_set_client='utf8mb4',character_set_results='utf16',character_set_connection='latin1'"
    );
    let none = latin.changed(&[Change::NoNames]);
    assert_eq!(
        text(&latin.restore(&none).system),
        "SET character_set_client=DEFAULT,character_set_results=DEFAULT,collation_connection=DEFAULT"
    );
    assert_eq!(text(&none.restore(&latin).system), "SET NAMES latin1 COLLATE latin1_swedish_ci");
}

#[test]
fn values_are_written_so_that_any_sql_mode_reads_them_alike() {
    for (reported, sql) in [
        ("12345", "12345"),
        ("0.500000", "0.500000"),
        ("-1", "-1"),
        ("+03:00", "'+03:00'"),
        ("ON", "'ON'"),
        ("", "''"),
        ("it's", "x'69742773'"),
        ("2026-11-22", "'2026-11-22'"),
        (".", "'.'"),
    ] {
        assert_eq!(String::from_utf8_lossy(&Value::Reported(reported.as_bytes().into()).sql("x")), sql, "{reported}");
    }
    assert_eq!(Value::Reported(b""[..].into()).sql("character_set_results"), b"NULL");
}

#[test]
fn user_variables_travel_apart_and_leave_nothing_behind() {
    let base = State::at_login(None, None);
    let with = base.changed(&[Change::User("a".into(), Value::Literal(b"5"[..].into()))]);
    assert_eq!(text(&base.restore(&with).user), "SET @`a`=5");
    assert_eq!(text(&with.restore(&base).user), "SET @`a`=NULL");
}

#[test]
fn equal_states_are_one() {
    let mut interner = Interner::default();
    let a = interner.share(Arc::new(State::at_login(Some(b"shop"), None)));
    let b = interner.share(Arc::new(State::at_login(Some(b"shop"), None)));
    let c = interner.share(Arc::new(State::at_login(Some(b"other"), None)));
    assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
}

#[test]
fn roles_come_first_and_cannot_be_taken_away() {
    let none = State::at_login(None, None);
    let some = none.changed(&[Change::Role(Some("admin".into()))]);
    let restore = none.restore(&some);
    assert_eq!((text(&restore.role).as_str(), restore.impossible), ("SET ROLE admin", false));
    assert!(some.restore(&none).impossible);
    assert!(some.restore(&some.clone()).is_empty());
    assert!(some != none);
}

#[test]
fn a_schema_cannot_be_taken_away() {
    let none = State::at_login(None, None);
    let some = State::at_login(Some(b"shop"), None);
    assert!(some.restore(&none).impossible);
    assert!(!none.restore(&some).impossible);
}

#[test]
fn collations_have_names_unless_the_flavour_lacks_them() {
    assert_eq!(charset_of_collation(45, true), Some(("utf8mb4".to_owned(), "utf8mb4_general_ci".to_owned())));
    assert_eq!(charset_of_collation(8, false), Some(("latin1".to_owned(), "latin1_swedish_ci".to_owned())));
    assert_eq!(charset_of_collation(255, false), Some(("utf8mb4".to_owned(), "utf8mb4_0900_ai_ci".to_owned())));
    assert_eq!(charset_of_collation(255, true), None);
    assert_eq!(charset_of_collation(0, false), None);
    assert_eq!(charset_of_collation(9999, false), None);
}

#[test]
fn what_the_login_gave_a_variable_comes_back() {
    let fresh = State::at_login(None, None);
    let set = |name: &str| fresh.changed(&[Change::System(name.into(), Some(Value::Reported(b"1".as_slice().into())))]);
    let login = Capabilities::IGNORE_SPACE | Capabilities::INTERACTIVE;
    for (name, login, expected) in [
        ("sql_mode", Capabilities::NONE, "SET sql_mode=DEFAULT"),
        ("sql_mode", login, "SET sql_mode=CONCAT_WS(',',NULLIF(@@GLOBAL.sql_mode,''),'IGNORE_SPACE')"),
        ("wait_timeout", Capabilities::IGNORE_SPACE, "SET wait_timeout=DEFAULT"),
        ("wait_timeout", login, "SET wait_timeout=@@GLOBAL.interactive_timeout"),
        ("time_zone", login, "SET time_zone=DEFAULT"),
    ] {
        assert_eq!(text(&set(name).restore_after(&fresh, login).system), expected);
    }
}
