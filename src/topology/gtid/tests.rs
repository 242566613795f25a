use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "4350f323-7565-4e59-8763-4b1b83a0ce0e";

fn mysql(text: &str) -> GtidSet {
    GtidSet::parse(Flavor::MySql, text).unwrap()
}

fn mariadb(text: &str) -> GtidSet {
    GtidSet::parse(Flavor::MariaDb, text).unwrap()
}

#[test]
fn what_a_server_writes_is_read_and_written_again() {
    for (text, again) in [
        (String::new(), String::new()),
        (format!("{A}:1"), format!("{A}:1")),
        (format!("{A}:1-5:11-18"), format!("{A}:1-5:11-18")),
        (format!("{A}:11-18:1-5"), format!("{A}:1-5:11-18")),
        (format!("{A}:1-5:6-9:3"), format!("{A}:1-9")),
        (format!("{A}:1-5,\n{B}:1-3"), format!("{A}:1-5,{B}:1-3")),
        (format!("{B}:1-3 , {}:1-5", A.to_uppercase()), format!("{A}:1-5,{B}:1-3")),
        (format!("{}:1-5", A.replace('-', "")), format!("{A}:1-5")),
        // tags, MySQL 8.3 and later
        (format!("{A}:1-5:Domain_1:1-3:7:other:4"), format!("{A}:1-5:domain_1:1-3:7:other:4")),
        (format!("{A}:domain:1-3,{A}:1"), format!("{A}:1:domain:1-3")),
        (format!("{A}:tag"), String::new()),
        (",,".to_owned(), String::new()),
    ] {
        assert_eq!(mysql(&text).to_string(), again, "{text}");
    }
    for (text, again) in [
        ("", ""),
        ("0-1-5", "0-1-5"),
        ("7-2-9, 0-1-5", "0-1-5,7-2-9"),
        ("0-1-5,0-2-7,0-3-6", "0-2-7"),
        ("0-4294967295-18446744073709551615", "0-4294967295-18446744073709551615"),
    ] {
        assert_eq!(mariadb(text).to_string(), again, "{text}");
    }
}

#[test]
fn what_is_no_set_is_refused() {
    for (text, error) in [
        ("x", GtidError::Uuid),
        ("3e11fa47-71ca-11e1-9e33-c80aa942956", GtidError::Uuid),
        ("3e11fa4771ca-11e1-9e33-c80aa94-29562:1", GtidError::Uuid),
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:0", GtidError::Interval),
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:5-3", GtidError::Interval),
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-2-3", GtidError::Interval),
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:9223372036854775807", GtidError::Interval),
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:99999999999999999999", GtidError::Interval),
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562::1", GtidError::Tag),
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:a-b:1", GtidError::Tag),
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:abcdefghijabcdefghijabcdefghijabc:1", GtidError::Tag),
        ("ü", GtidError::Uuid),
    ] {
        assert_eq!(GtidSet::parse(Flavor::MySql, text), Err(error), "{text}");
    }
    for text in ["x", "0-1", "0-1-2-3", "0-1-", "+0-1-2", "0-1--2", "4294967296-1-1", "0-1-18446744073709551616"] {
        assert_eq!(GtidSet::parse(Flavor::MariaDb, text), Err(GtidError::Position), "{text}");
    }
}

#[test]
fn limits_hold() {
    assert_eq!(GtidSet::parse(Flavor::MySql, &" ".repeat(GTID_TEXT_BYTES_MAX + 1)), Err(GtidError::TooLong));
    let mut many = A.to_owned();
    for n in 0..=GTID_PARTS_MAX {
        many.push_str(&format!(":{}", n * 2 + 1));
    }
    assert_eq!(GtidSet::parse(Flavor::MySql, &many), Err(GtidError::TooManyParts));
    let domains: Vec<String> = (0..=GTID_PARTS_MAX).map(|n| format!("{n}-1-1")).collect();
    assert_eq!(GtidSet::parse(Flavor::MariaDb, &domains.join(",")), Err(GtidError::TooManyParts));
}

#[test]
fn covering() {
    let all = mysql(&format!("{A}:1-100:200-300:tag:1-9,{B}:5"));
    for (wanted, covered) in [
        (String::new(), true),
        (format!("{A}:1"), true),
        (format!("{A}:100"), true),
        (format!("{A}:101"), false),
        (format!("{A}:99-101"), false),
        (format!("{A}:100:200"), true),
        (format!("{A}:tag:9"), true),
        (format!("{A}:tag:10"), false),
        (format!("{A}:other:1"), false),
        (format!("{B}:5"), true),
        (format!("{B}:4-5"), false),
    ] {
        assert_eq!(all.covers(&mysql(&wanted)), covered, "{wanted}");
    }
    let position = mariadb("0-1-42,3-2-7");
    for (wanted, covered) in
        [("", true), ("0-1-42", true), ("0-9-41", true), ("0-1-43", false), ("3-1-7,0-1-1", true), ("1-1-1", false)]
    {
        assert_eq!(position.covers(&mariadb(wanted)), covered, "{wanted}");
    }
    assert!(!all.covers(&position) && !position.covers(&all), "flavours do not mix");
    assert!(all.covers(&mariadb("")));
}

#[test]
fn what_is_missing_is_named() {
    let text = mysql(&format!("{A}:1-10,{B}:1-3")).missing_from(&mysql(&format!("{A}:1-7:9")));
    assert_eq!(text, format!("{A}:8:10,{B}:1-3"));
    assert_eq!(mysql(&format!("{A}:1-10")).missing_count(&mysql(&format!("{A}:1-7:9"))), 2);
    assert_eq!(mariadb("0-1-21,4-1-3,5-1-1").missing_from(&mariadb("0-2-16,5-1-1")), "0-1-17..21,4-1-1..3");
    assert_eq!(mariadb("0-1-21").missing_from(&mariadb("0-2-20")), "0-1-21");
    assert_eq!(mariadb("0-1-21").missing_from(&mariadb("0-2-22")), "");
    assert_eq!(mariadb("0-1-21,1-1-4").missing_count(&mariadb("0-1-20")), 5);
}

/// The naive model: a set of (origin, number).
type Model = BTreeSet<(u8, u8, u64)>;

fn model_text(model: &[(u8, u8, u64, u64)]) -> String {
    let mut members = Vec::new();
    for (uuid, tag, first, length) in model {
        let tag = if *tag == 0 { String::new() } else { format!(":t{tag}") };
        members.push(format!("{:032x}{tag}:{first}-{}", u128::from(*uuid), first + length));
    }
    members.join(",")
}

fn model(parts: &[(u8, u8, u64, u64)]) -> Model {
    parts.iter().flat_map(|(uuid, tag, first, length)| (*first..=first + length).map(|n| (*uuid, *tag, n))).collect()
}

fn parts() -> impl Strategy<Value = Vec<(u8, u8, u64, u64)>> {
    prop::collection::vec((0..3_u8, 0..3_u8, 1..40_u64, 0..12_u64), 0..12)
}

fn as_model(set: &MySqlSet) -> Model {
    let mut model = Model::new();
    for (origin, intervals) in set.origins() {
        let tag = origin.tag.as_str().strip_prefix('t').map_or(0, |n| n.parse().unwrap());
        for interval in intervals {
            model.extend((interval.first..=interval.last).map(|n| (origin.uuid[15], tag, n)));
        }
    }
    model
}

proptest! {
    #[test]
    fn mysql_sets_are_sets(a in parts(), b in parts()) {
        let (x, y) = (MySqlSet::parse(&model_text(&a)).unwrap(), MySqlSet::parse(&model_text(&b)).unwrap());
        let (mx, my) = (model(&a), model(&b));
        prop_assert_eq!(as_model(&x), mx.clone());
        prop_assert_eq!(x.count(), mx.len() as u64);
        prop_assert_eq!(x.is_empty(), mx.is_empty());
        prop_assert_eq!(x.contains(&y), mx.is_superset(&my));
        prop_assert_eq!(as_model(&x.subtract(&y)), mx.difference(&my).copied().collect::<Model>());
        prop_assert_eq!(as_model(&x.union(&y)), mx.union(&my).copied().collect::<Model>());
        prop_assert_eq!(x.union(&y), y.union(&x));
        prop_assert_eq!(MySqlSet::parse(&x.to_string()).unwrap(), x.clone());
        for (uuid, tag, n) in &my {
            let mut origin = Origin { uuid: [0; 16], tag: Tag::default() };
            origin.uuid[15] = *uuid;
            if *tag > 0 {
                origin.tag = Tag::parse(&format!("t{tag}")).unwrap();
            }
            prop_assert_eq!(x.intervals(&origin).iter().any(|i| (i.first..=i.last).contains(n)), mx.contains(&(*uuid, *tag, *n)));
        }
    }

    #[test]
    fn adding_one_by_one_is_the_whole(numbers in prop::collection::vec(1..60_u64, 0..60)) {
        let origin = Origin { uuid: [7; 16], tag: Tag::default() };
        let mut set = MySqlSet::default();
        for n in &numbers {
            set.merge(&MySqlSet::one(origin.clone(), *n));
        }
        let wanted: BTreeSet<u64> = numbers.iter().copied().collect();
        let have: BTreeSet<u64> = set.intervals(&origin).iter().flat_map(|i| i.first..=i.last).collect();
        prop_assert_eq!(have, wanted);
        prop_assert!(set.intervals(&origin).windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
    }

    #[test]
    fn mariadb_positions_are_sets_of_prefixes(a in prop::collection::vec((0..4_u32, 1..4_u32, 1..30_u64), 0..8), b in prop::collection::vec((0..4_u32, 1..4_u32, 1..30_u64), 0..8)) {
        let text = |parts: &[(u32, u32, u64)]| parts.iter().map(|(d, s, n)| format!("{d}-{s}-{n}")).collect::<Vec<_>>().join(",");
        let prefix = |parts: &[(u32, u32, u64)]| parts.iter().flat_map(|(d, _, n)| (1..=*n).map(|i| (*d, i))).collect::<BTreeSet<_>>();
        let (x, y) = (MariaDbPosition::parse(&text(&a)).unwrap(), MariaDbPosition::parse(&text(&b)).unwrap());
        let (mx, my) = (prefix(&a), prefix(&b));
        prop_assert_eq!(x.covers(&y), mx.is_superset(&my));
        prop_assert_eq!(x.missing_count(&y), mx.difference(&my).count() as u64);
        prop_assert_eq!(x.missing_from(&y).is_empty(), mx.is_subset(&my));
        let mut both = x.clone();
        both.merge(&y);
        prop_assert!(both.covers(&x) && both.covers(&y));
        prop_assert_eq!(both.missing_count(&MariaDbPosition::default()), mx.union(&my).count() as u64);
        prop_assert_eq!(MariaDbPosition::parse(&x.to_string()).unwrap(), x);
    }

    #[test]
    fn no_text_panics(text in "[0-9a-f:,_ -]{0,80}|\\PC{0,40}") {
        for flavor in [Flavor::MySql, Flavor::MariaDb] {
            if let Ok(set) = GtidSet::parse(flavor, &text) {
                prop_assert_eq!(GtidSet::parse(flavor, &set.to_string()).unwrap(), set);
            }
        }
    }
}
