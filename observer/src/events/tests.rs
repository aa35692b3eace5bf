//! Tests of filters and of the text of events, for each kind and over real recordings.

use std::{collections::BTreeSet, path::Path};

use observer_ebpf::{class, kinds, lock_arg, mode};
use observer_engine::{
    event::{Event, SiteId, Tid},
    order::{Item, Order},
    setup::{Role, Setup, Site},
};

use super::*;
use crate::recording::Reader;

const START_NS: u64 = 1_000_000_000;

fn site(id: u16, function: &str, role: Role) -> Site {
    Site::new(SiteId(id), function, role)
}

fn setup() -> Setup {
    let sites = vec![
        site(0, "a_fault", Role::Operation),
        site(1, "a_walk", Role::Callback),
        site(70, "find_pte", Role::Lookup),
    ];
    Setup { sites, ..Setup::default() }
}

/// An event of a kind, with distinct values in all fields.
fn event(kind: u16) -> Event {
    let row = kinds::by_number(kind).unwrap();
    let arg = match row.arg.name {
        "class_mode" => lock_arg(class::VMA_LOCK, mode::READ),
        "how" => 1,
        "" => 0,
        _ => 213,
    };
    let mut words = [0; 5];
    for (word, field) in words.iter_mut().zip(row.words) {
        *word = match field.name {
            "mm" => 0xffff_8880_0000_1000,
            "addr" | "start" => 0x7f00_4020_0000,
            "end" => 0x7f00_4060_0000,
            "gib" => 0x7f00_4000_0000,
            "pte" => 0xffff_8880_0000_2008,
            "table" => 0xffff_8880_0000_2000,
            "lock" => 0xffff_8880_0000_3000,
            "owner" => 0xffff_8880_0000_4000,
            "vma" => 0xffff_8880_0000_5000,
            "folio" => 0xffff_ea00_0000_6000,
            "mapping" => 0xffff_8880_0000_7000,
            "lo_ns" => START_NS + 1_000_000,
            "comm_lo" => u64::from_le_bytes(*b"ex-reade"),
            "comm_hi" => u64::from_le_bytes(*b"r\0\0\0\0\0\0\0"),
            "ret" => -12i64 as u64,
            "child_tgid" => 213,
            _ => 0,
        };
    }
    let body = Body::from_wire(kind, arg, &words).unwrap();
    let site = if kind == kinds::LOOKUP { 70 } else { 0 };
    Event { time_ns: START_NS + 2_500_000, seq: 9, tid: Tid(212), cpu: 3, site: SiteId(site), body }
}

fn row(kind: u16) -> EventRow {
    EventRow { number: 1, event: event(kind), comm: "ex-reader".into(), owner: 0 }
}

fn rows() -> Vec<EventRow> {
    kinds::TABLE.iter().map(|k| row(k.number)).collect()
}

/// Names of the kinds whose sample event passes the filter.
fn passing(text: &str) -> Vec<&'static str> {
    let filter = Filter::parse(text, &setup()).unwrap().since(START_NS);
    let name = |row: &EventRow| kinds::by_number(row.event.body.kind()).unwrap().name;
    rows().iter().filter(|row| filter.matches(row)).map(name).collect()
}

#[test]
fn every_kind_has_a_text() {
    for kind in kinds::TABLE {
        let words = words(&row(kind.number), &setup(), START_NS);
        assert!(words.action.len() > 3 && !words.action.contains("{}"), "{}: {words:?}", kind.name);
        let is_complete = kind.words.is_empty() || !words.object.is_empty();
        assert!(is_complete, "{}: {words:?}", kind.name);
        assert!(words.line().starts_with("+0.002500 s  cpu 3  task 212 ex-reader  "), "{}", words.line());
        assert!(trace_line(&row(kind.number), &setup()).contains(kind.name));
    }
}

#[test]
fn the_text_of_an_event_shows_its_addresses() {
    for kind in kinds::TABLE {
        let words = words(&row(kind.number), &setup(), START_NS);
        let addresses = event(kind.number).body.wire().1.into_iter().filter(|w| w >> 40 != 0);
        for address in addresses.filter(|_| ![kinds::TASK, kinds::OP_END].contains(&kind.number)) {
            assert!(words.object.contains(&format!("{address:#x}")), "{}: {words:?}", kind.name);
        }
    }
}

#[test]
fn format_of_rows() {
    let line = |kind| words(&row(kind), &setup(), START_NS).line();
    assert_eq!(
        line(kinds::LOOKUP),
        "+0.002500 s  cpu 3  task 212 ex-reader  looked up  addr 0x7f0040200000, pte 0xffff888000002008, table \
         0xffff888000002000, repeats before 213, mm 0xffff888000001000  in find_pte"
    );
    assert!(line(kinds::LOCK_ASK).ends_with("requested vma_lock(read)  lock 0xffff888000003000  in a_fault"));
    assert!(line(kinds::OP_BEGIN).contains("begins a_fault  range 0x7f0040200000-0x"));
    assert!(line(kinds::OP_END).ends_with("ends a_fault  returned -12"));
    let mut ptl = row(kinds::LOCK_RELEASE);
    ptl.event.body =
        Body::from_wire(kinds::LOCK_RELEASE, lock_arg(class::PTL, mode::EXCLUSIVE), &[0x30, 0, 0, 0, 0])
            .unwrap();
    ptl.owner = 0x2000;
    let ptl = words(&ptl, &setup(), START_NS);
    assert_eq!((ptl.action.as_str(), ptl.object.as_str()), ("released ptl", "lock 0x30, table 0x2000"));
}

#[test]
fn filters_by_kind_and_group() {
    for kind in kinds::TABLE {
        assert_eq!(passing(&format!("kind={}", kind.name)), [kind.name]);
    }
    assert_eq!(passing("kind=lock_ask"), ["ask"]);
    assert_eq!(passing("kind=op-begin"), ["op_begin"]);
    assert_eq!(passing("kind=lookup,unshare"), ["lookup", "unshare"]);
    assert_eq!(passing("kind=folio"), ["folio_ask", "folio_held", "folio_release", "folio_wait"]);
    assert_eq!(passing("kind=wait"), ["wait_begin", "wait_end", "folio_wait"]);
    assert_eq!(passing("kind=table"), ["share", "table_alloc", "unshare", "unlinked", "table_free"]);
    assert_eq!(passing("kind=op"), ["op_begin", "callback_begin", "op_end"]);
    assert_eq!(passing("kind=lock").len(), 10);
    assert_eq!(passing("!kind=lookup").len(), kinds::TABLE.len() - 1);
}

#[test]
fn filters_by_task_cpu_and_time() {
    let all = kinds::TABLE.len();
    let count = |text| passing(text).len();
    for (text, expected) in [
        ("", all),
        ("task=212", all),
        ("tid=213", 0),
        ("task=ex-reader", all),
        ("task=ex-*", all),
        ("comm=*read*", all),
        ("task=reader", 0),
        ("tid=1,212", all),
        ("cpu=3", all),
        ("cpu=2", 0),
        ("!cpu=2", all),
        ("after=0.0025", all),
        ("after=+0.002501", 0),
        ("before=0.0025", 0),
        ("before=+0.002501s", all),
        ("after=0.002 before=0.003", all),
        ("cpu=3 cpu=2", 0),
    ] {
        assert_eq!(count(text), expected, "{text}");
    }
}

#[test]
fn object_addresses_must_match_completely() {
    let mm = [
        "task",
        "task_exit",
        "op_begin",
        "callback_begin",
        "lookup",
        "share",
        "table_alloc",
        "unshare",
        "unlinked",
        "table_free",
        "lookup_other_size",
    ];
    assert_eq!(passing("mm=0xffff888000001000"), mm);
    assert_eq!(passing("mm=ffff888000001000"), mm);
    assert_eq!(passing("mm=0xffff88800000100").len(), 0);
    let table = ["callback_begin", "lookup", "share", "table_alloc", "unshare", "unlinked", "table_free"];
    assert_eq!(passing("table=0xffff888000002000"), table);
    assert_eq!(
        passing("pte=0xffff888000002008"),
        ["callback_begin", "lookup", "share", "unshare", "lookup_other_size"]
    );
    let lock = [
        "ask",
        "try",
        "busy",
        "gave_up",
        "release",
        "downgrade",
        "wait_begin",
        "wait_end",
        "lock_name",
        "lock_forget",
    ];
    assert_eq!(passing("lock=0xffff888000003000"), lock);
    assert_eq!(passing("lock=0xffffea0000006000").len(), 4);
    assert_eq!(passing("table=0xffff888000004000"), ["lock_name"]);
    let mut owned = row(kinds::LOCK_ASK);
    owned.owner = 0xffff_8880_0000_2000;
    assert!(Filter::parse("table=0xffff888000002000", &setup()).unwrap().matches(&owned));
}

#[test]
fn addresses_match_by_page_or_gib() {
    let at = [
        "op_begin",
        "callback_begin",
        "lookup",
        "share",
        "table_alloc",
        "unshare",
        "unlinked",
        "lookup_other_size",
    ];
    assert_eq!(passing("addr=0x7f0040200000"), at);
    assert_eq!(passing("addr=0x7f0040201234"), at);
    assert_eq!(passing("addr=0x7f0040000000"), at);
    assert_eq!(passing("addr=0x7f0040400000"), ["op_begin", "unlinked"]);
    assert_eq!(passing("addr=0x7f0040600000"), ["unlinked"]);
    assert_eq!(passing("addr=0x7f0080000000").len(), 0);
}

#[test]
fn filters_by_short_or_full_class_name() {
    assert_eq!(passing("class=vma_lock").len(), 10);
    assert_eq!(passing("class=vma").len(), 10);
    assert_eq!(passing("class=ptl").len(), 0);
    assert_eq!(passing("class=folio").len(), 4);
    assert_eq!(passing("class=folio(file)").len(), 4);
    assert_eq!(passing("class=folio_lock(anon)").len(), 0);
    assert_eq!(passing("class=vma,folio").len(), 14);
}

#[test]
fn filters_by_site_and_operation() {
    assert_eq!(passing("site=find_pte"), ["lookup"]);
    assert_eq!(passing("site=find_*"), ["lookup"]);
    assert_eq!(passing("site=*_fault").len(), kinds::TABLE.len() - 1);
    assert_eq!(passing("op=a_fault"), ["op_begin", "callback_begin", "op_end", "unlinked", "stack"]);
    assert_eq!(passing("op=a_fault kind=stack"), ["stack"]);
}

#[test]
fn bare_words_match_the_text_of_the_row() {
    assert_eq!(passing("looked"), ["lookup", "lookup_other_size"]);
    assert_eq!(passing("FIND_"), ["lookup"]);
    assert_eq!(passing("vma_lock(read)").len(), 8);
    assert_eq!(passing("Reader").len(), kinds::TABLE.len());
    assert_eq!(passing("212").len(), kinds::TABLE.len());
    assert_eq!(passing("0xffff888000002008"), passing("pte=0xffff888000002008"));
    assert_eq!(passing("2008"), passing("pte=0xffff888000002008"));
    assert_eq!(passing("!2008 table=0xffff888000002000"), ["table_alloc", "unlinked", "table_free"]);
    assert_eq!(passing("nothing-has-this").len(), 0);
}

#[test]
fn the_error_of_an_unknown_filter_lists_the_known_ones() {
    let why = |text: &str| Filter::parse(text, &setup()).unwrap_err();
    assert!(why("foo=1").starts_with("foo= is not known; known are kind= task= "));
    assert!(why("kind=nope").contains("known are task, task_exit, fork"));
    assert!(why("class=nope").contains("known are mmap_lock, vma_lock"));
    assert_eq!(why("site=pte"), "no function of this run is called pte; there is find_pte");
    assert!(why("op=find_pte").starts_with("no function of this run is called find_pte"));
    assert_eq!(why("cpu=x"), "cpu= takes a number, not x");
    assert_eq!(why("tid=x"), "tid= takes a number, not x; comm= takes a name");
    assert!(why("mm=xyz").contains("hexadecimal"));
    assert!(why("after=soon").contains("as in 1.25"));
    assert_eq!(why("kind="), "kind= needs a value");
    assert_eq!(why("!"), "! needs a word after it");
}

#[test]
fn help_lists_every_filter_word() {
    let known = Filter::parse("foo=1", &setup()).unwrap_err();
    let help: String = filter::HELP.iter().map(|(word, what)| format!("{word} {what} ")).collect();
    for key in known.split_whitespace().filter_map(|w| w.strip_suffix('=')).filter(|k| *k != "foo") {
        assert!(help.contains(&format!("{key}=")), "{key}=");
    }
}

/// All events of a recording in order, with their known context.
fn recorded(fixture: &str) -> (Setup, u64, Vec<EventRow>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(fixture);
    let mut reader = Reader::new(Box::new(std::fs::File::open(path).unwrap())).unwrap();
    let (mut order, mut context, mut rows) = (Order::new(), Context::default(), Vec::new());
    let mut take = |item: Item<'_>| {
        if let Item::Event(event) = item {
            let number = rows.len() as u64 + 1;
            rows.push(context.pick(number, event, &Filter::default()).unwrap());
        }
    };
    while let Some(pass) = reader.next_pass().unwrap() {
        pass.batches.iter().for_each(|b| order.batch(b.cpu, &b.bytes));
        order.mark(pass.mark, &mut take);
    }
    order.finish(&mut take);
    let setup = Setup::try_from(&reader.meta().setup).unwrap();
    (setup, reader.meta().start_ns, rows)
}

/// Each filter word finds as many events of a real run as a direct comparison.
#[test]
fn filters_find_the_events_of_real_recordings() {
    let (setup, start_ns, rows) = recorded("walkers-6.1.obs");
    let names: BTreeSet<&str> = setup.sites.iter().map(|s| s.function.as_str()).collect();
    let of = |row: &EventRow| kinds::by_number(row.event.body.kind()).unwrap();
    let by_name = |row: &EventRow, field: &str, value: u64| {
        let (kind, (_, words)) = (of(row), row.event.body.wire());
        kind.words.iter().zip(words).any(|(f, word)| f.name == field && word == value)
    };
    let lookup = rows.iter().find(|r| of(r).name == "lookup" && r.event.body.wire().1[2] != 0).unwrap();
    let [mm, _, pte, ..] = lookup.event.body.wire().1;
    let count = |text: &str| {
        let filter = Filter::parse(text, &setup).unwrap().since(start_ns);
        rows.iter().filter(|row| filter.matches(row)).count()
    };
    let expect = |text: &str, is: &dyn Fn(&EventRow) -> bool| {
        let expected = rows.iter().filter(|row| is(row)).count();
        assert_eq!(count(text), expected, "{text}");
        assert!(expected > 0 && expected < rows.len(), "{text} selects all or nothing: {expected}");
    };
    for kind in rows.iter().map(|r| of(r).name).collect::<BTreeSet<_>>() {
        expect(&format!("kind={kind}"), &|r| of(r).name == kind);
    }
    for cpu in rows.iter().map(|r| r.event.cpu).collect::<BTreeSet<_>>() {
        expect(&format!("cpu={cpu}"), &|r| r.event.cpu == cpu);
    }
    for tid in rows.iter().map(|r| r.event.tid.0).collect::<BTreeSet<_>>() {
        expect(&format!("tid={tid}"), &|r| r.event.tid.0 == tid);
    }
    for comm in rows.iter().map(|r| r.comm.to_string()).filter(|c| !c.is_empty()).collect::<BTreeSet<_>>() {
        expect(&format!("comm={comm}"), &|r| *r.comm == comm);
    }
    let id = |name: &str| setup.sites.iter().filter(|s| s.function == name).map(|s| s.id).collect::<Vec<_>>();
    for name in names.iter().filter(|name| rows.iter().any(|r| id(name).contains(&r.event.site))) {
        expect(&format!("site={name}"), &|r| id(name).contains(&r.event.site));
    }
    for (number, name) in class::NAMES.iter().enumerate().skip(1).filter(|(_, n)| **n != "inode_lock") {
        expect(&format!("class={name}"), &|r| {
            let is_folio = number == class::FOLIO as usize && of(r).name.starts_with("folio");
            is_folio || of(r).arg.name == "class_mode" && r.event.body.wire().0 & 0xff == number as u32
        });
    }
    expect(&format!("pte={pte:#x}"), &|r| by_name(r, "pte", pte));
    expect(&format!("mm={mm:#x}"), &|r| by_name(r, "mm", mm) || by_name(r, "owner", mm) || r.owner == mm);
    let middle = rows[rows.len() / 2].event.time_ns - start_ns;
    let at = format!("{}.{:09}", middle / 1_000_000_000, middle % 1_000_000_000);
    expect(&format!("after={at}"), &|r| r.event.time_ns >= start_ns + middle);
    expect(&format!("before={at}"), &|r| r.event.time_ns < start_ns + middle);
}

/// `cargo test -p observer --lib --release -- --ignored --nocapture cost_of_filters`
#[test]
#[ignore = "a measurement"]
fn cost_of_filters() {
    let (setup, start_ns, rows) = recorded("share-unmap.obs");
    for text in [
        "kind=lookup",
        "table=0xffff888000002000",
        "mm=0xffff888000002000 kind=lookup,share",
        "task=ex-reader",
        "addr=0x7f0040200000",
        "site=*fault* class=ptl !cpu=1",
        "after=1.5 lock=0xffff888000002000",
        "ex-reader",
        "0xffff888000002000",
    ] {
        let filter = Filter::parse(text, &setup).unwrap().since(start_ns);
        let begun = std::time::Instant::now();
        let (mut n, rounds) = (0, 2_000_000 / rows.len() + 1);
        for _ in 0..rounds {
            n += rows.iter().filter(|row| filter.matches(std::hint::black_box(row))).count();
        }
        let each = begun.elapsed().as_nanos() as f64 / (rounds * rows.len()) as f64;
        println!("{each:6.1} ns  {text}  ({} of {})", n / rounds, rows.len());
    }
}
