//! Parses a text trace. An unknown word is an error, reported with its line.

use observer_ebpf::{
    class, how,
    kinds::{self, Kind},
    loss, mode,
};

use super::{Error, Expectation, Step, Trace};
use crate::{
    Hole,
    event::{Body, Class, Event, Mode, SiteId, Tid},
    lock_class::LockClass,
    setup::{Coverage, DocumentedOrder, Exclusion, FolioTaken, Grade, OrderException, Role, Setup, Site},
};

type Result<T> = std::result::Result<T, String>;

impl std::str::FromStr for Trace {
    type Err = Error;

    fn from_str(text: &str) -> std::result::Result<Trace, Error> {
        let mut trace = Trace::default();
        for (at, raw) in text.lines().enumerate() {
            let words = raw.split('#').next().unwrap_or("").trim();
            if !words.is_empty() {
                statement(&mut trace, words).map_err(|message| Error { line: at + 1, message })?;
            }
        }
        Ok(trace)
    }
}

fn statement(trace: &mut Trace, text: &str) -> Result<()> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    match verb {
        "site" => trace.setup.sites.push(site(rest, &trace.setup)?),
        "exclude" => trace.setup.exclusions.push(exclusion(rest)?),
        "order" => trace.setup.orders.push(order(rest)?),
        "order-exception" => {
            let order = trace.setup.orders.last_mut().ok_or("there is no `order` line before it")?;
            order.exceptions.push(order_exception(rest)?);
        }
        "coverage" => trace.setup.coverage.push(coverage(rest)?),
        "hole" => trace.steps.push(Step::Hole(hole(rest, &trace.setup)?)),
        "tick" => trace.steps.push(Step::Tick(number(rest)?)),
        "expect" => trace.expectations.push(rest.parse::<Expectation>()?),
        _ => trace.steps.push(Step::Event(event(text, &trace.setup)?)),
    }
    Ok(())
}

/// Parses a number: decimal, or hexadecimal with `0x`.
pub(super) fn number(word: &str) -> Result<u64> {
    let parsed = match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| format!("`{word}` is not a number"))
}

fn small<T: TryFrom<u64>>(word: &str) -> Result<T> {
    T::try_from(number(word)?).map_err(|_| format!("`{word}` is too large"))
}

fn prefixed<'a>(word: Option<&'a str>, prefix: &str) -> Result<&'a str> {
    let word = word.ok_or_else(|| format!("`{prefix}N` is missing"))?;
    word.strip_prefix(prefix).ok_or_else(|| format!("expected `{prefix}N`, found `{word}`"))
}

fn class(word: &str) -> Result<Class> {
    Class::ALL
        .into_iter()
        .find(|c| c.name() == word)
        .ok_or_else(|| format!("`{word}` is not a lock class; there are {}", class::NAMES[1..].join(", ")))
}

fn mode(word: &str) -> Option<Mode> {
    (1..mode::NAMES.len() as u32).filter_map(Mode::from_wire).find(|m| m.name() == word)
}

fn site(rest: &str, setup: &Setup) -> Result<Site> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [id, role, function, marks @ ..] = words.as_slice() else {
        return Err("`site NUMBER ROLE FUNCTION` was expected".into());
    };
    let id = SiteId(small(id)?);
    if setup.sites.iter().any(|s| s.id == id) {
        return Err(format!("site {} is defined twice", id.0));
    }
    let role = Role::from_name(role).ok_or_else(|| format!("`{role}` is not a role"))?;
    let mut site = Site::new(id, function, role);
    for mark in marks {
        match mark.split_once('=') {
            Some(("foreign-lookup-until", name)) => site.foreign_lookup_until = Some(class(name)?),
            Some(("try-then-block", names)) => {
                site.try_then_block = names.split(',').map(class).collect::<Result<_>>()?;
            }
            None if *mark == "vma-locked" => site.vma_locked = true,
            Some(("folio-after", name)) => site.folio_taken = Some(folio_taken(name)?),
            None if *mark == "late" => site.late = true,
            None if *mark == "last-user" => site.last_user = true,
            _ => return Err(format!("`{mark}` is not a mark of a site")),
        }
    }
    Ok(site)
}

/// Parses classes, `first` and `blocks`, separated by commas.
fn folio_taken(text: &str) -> Result<FolioTaken> {
    let mut taken = FolioTaken { after: Vec::new(), first: false, blocks: false };
    for word in text.split(',') {
        match word {
            "begin" => {}
            "first" => taken.first = true,
            "blocks" => taken.blocks = true,
            name => taken.after.push(class(name)?),
        }
    }
    Ok(taken)
}

fn exclusion(rest: &str) -> Result<Exclusion> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (name, modes, except) = match words.as_slice() {
        [name, modes] => (name, modes, ""),
        [name, modes, "except", except] => (name, modes, *except),
        _ => return Err("`exclude CLASS MODE,… [except FUNCTION,…]` was expected".into()),
    };
    let known = |m: &str| mode(m).ok_or_else(|| format!("`{m}` is not a mode"));
    Ok(Exclusion {
        class: class(name)?,
        modes: modes.split(',').map(known).collect::<Result<_>>()?,
        except_unlink_sites: except.split(',').filter(|f| !f.is_empty()).map(str::to_owned).collect(),
    })
}

fn order(rest: &str) -> Result<DocumentedOrder> {
    let (source, classes) = rest.rsplit_once(':').ok_or("`order SOURCE: CLASS …` was expected")?;
    let outer_to_inner = classes.split_whitespace().map(class).collect::<Result<Vec<Class>>>()?;
    if outer_to_inner.len() < 2 {
        return Err("an order has two classes at least".into());
    }
    Ok(DocumentedOrder { source: source.trim().to_owned(), outer_to_inner, exceptions: Vec::new() })
}

fn order_exception(rest: &str) -> Result<OrderException> {
    let form = "`order-exception CLASS CLASS [at FUNCTION,…]: REASON` was expected";
    let (classes, reason) = rest.split_once(": ").ok_or(form)?;
    let words: Vec<&str> = classes.split_whitespace().collect();
    let (from, to, at) = match words.as_slice() {
        [from, to] => (from, to, ""),
        [from, to, "at", at] => (from, to, *at),
        _ => return Err(form.into()),
    };
    let class = |name: &str| {
        let all = || LockClass::ALL.map(LockClass::name).join(", ");
        LockClass::from_name(name).ok_or_else(|| format!("`{name}` is not a lock class; there are {}", all()))
    };
    Ok(OrderException {
        from: class(from)?,
        to: class(to)?,
        at: at.split(',').filter(|f| !f.is_empty()).map(str::to_owned).collect(),
        reason: reason.trim().to_owned(),
        source: String::new(),
    })
}

fn coverage(rest: &str) -> Result<Coverage> {
    let mut words = rest.splitn(3, ' ');
    let (Some(part), Some(grade)) = (words.next(), words.next()) else {
        return Err("`coverage ROLE[/PART] GRADE [REASON]` was expected".into());
    };
    let (role, part) = part.split_once('/').unwrap_or((part, ""));
    Ok(Coverage {
        role: Role::from_name(role).ok_or_else(|| format!("`{role}` is not a role"))?,
        part: part.to_owned(),
        grade: Grade::from_name(grade).ok_or_else(|| format!("`{grade}` is not a grade"))?,
        reason: words.next().unwrap_or("").to_owned(),
    })
}

fn hole(rest: &str, setup: &Setup) -> Result<Hole> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (words, site) = match words.split_last() {
        Some((last, first)) if last.starts_with("site=") => (first, Some(site_of(&last[5..], setup)?)),
        _ => (words.as_slice(), None),
    };
    let [cpu, interval, lost, reason] = words else {
        return Err("`hole cpuN|any LO..HI LOST REASON [site=FUNCTION]` was expected".into());
    };
    let (lo, hi) = interval.split_once("..").ok_or_else(|| format!("`{interval}` is not an interval"))?;
    let reasons = || loss::REASONS.iter().map(|(name, _)| *name);
    Ok(Hole {
        cpu: if *cpu == "any" { Hole::ANY_CPU } else { small(prefixed(Some(cpu), "cpu")?)? },
        lo_ns: number(lo)?,
        hi_ns: number(hi)?,
        lost: number(lost)?,
        reason: reasons().find(|r| r == reason).ok_or_else(|| {
            format!(
                "`{reason}` is not a reason of loss; there are {}",
                reasons().collect::<Vec<_>>().join(", ")
            )
        })?,
        site,
    })
}

fn site_of(word: &str, setup: &Setup) -> Result<SiteId> {
    if word.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(SiteId(small(word)?));
    }
    let mut found = setup.sites.iter().filter(|s| s.function == word);
    match (found.next(), found.next()) {
        (Some(site), None) => Ok(site.id),
        (None, _) => Err(format!("no `site` line defines `{word}`")),
        (Some(_), Some(_)) => Err(format!("`{word}` has several sites: use the number")),
    }
}

fn event(text: &str, setup: &Setup) -> Result<Event> {
    let mut words = text.split_whitespace().peekable();
    let time = words.next().unwrap_or("");
    let time_ns =
        number(time).map_err(|_| format!("`{time}` does not begin a line of a trace: a time or a word"))?;
    let cpu = small(prefixed(words.next(), "cpu")?)?;
    let tid = Tid(small(prefixed(words.next(), "t")?)?);
    let (mut site, mut seq) = (SiteId(u16::MAX), 0);
    while let Some((key, value)) = words.peek().and_then(|w| w.split_once('=')) {
        match key {
            "site" => site = site_of(value, setup)?,
            "seq" => seq = small(value)?,
            _ => return Err(format!("`{key}` before the kind: only `site` and `seq` may precede it")),
        }
        words.next();
    }
    let name = words.next().ok_or("the kind is missing")?;
    let kind = kinds::TABLE.iter().find(|k| k.name == name).ok_or_else(|| {
        let all: Vec<&str> = kinds::TABLE.iter().map(|k| k.name).collect();
        format!("`{name}` is not a kind of event; there are {}", all.join(", "))
    })?;
    let body = body(kind, words, setup)?;
    Ok(Event { time_ns, seq, tid, cpu, site, body })
}

fn body<'a>(kind: &Kind, words: impl Iterator<Item = &'a str>, setup: &Setup) -> Result<Body> {
    let mut arg: u32 = 0;
    let mut payload = [0; 5];
    let mut seen: Vec<&str> = Vec::new();
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if seen.contains(&key) {
            return Err(format!("`{key}` is given twice"));
        }
        seen.push(key);
        if word.contains('=') {
            field(kind, (key, value), setup, (&mut arg, &mut payload))?;
        } else if kind.arg.name != "class_mode" {
            return Err(format!("`{word}` has no value"));
        } else if let Some(mode) = mode(word) {
            arg |= (mode as u32) << 8;
        } else if word == "failed" {
            arg |= 1 << 31;
        } else if arg & 0xff != 0 {
            return Err(format!("`{word}` is not a mode"));
        } else {
            arg |= class(word)? as u32;
        }
    }
    if kind.arg.name == "class_mode" && arg & 0xff == 0 {
        return Err("the lock class is missing".into());
    }
    Body::from_wire(kind.number, arg, &payload).ok_or_else(|| format!("`{}` lacks a field", kind.name))
}

fn field(
    kind: &Kind,
    (key, value): (&str, &str),
    setup: &Setup,
    (arg, payload): (&mut u32, &mut [u64; 5]),
) -> Result<()> {
    if key == "comm" && kind.number == kinds::TASK {
        let bytes = comm(value)?;
        for (word, half) in payload.iter_mut().zip(bytes.chunks(8)) {
            *word = half.iter().rev().fold(0, |w, b| w << 8 | u64::from(*b));
        }
    } else if key == "how" && kind.arg.name == "how" {
        *arg = how::NAMES[1..].iter().position(|n| *n == value).map_or(0, |at| at as u32 + 1);
        if *arg == 0 {
            return Err(format!("`{value}` is not one of {}", how::NAMES[1..].join(", ")));
        }
    } else if key == "op" && kind.number == kinds::STACK {
        payload[0] = site_of(value, setup)?.0.into();
    } else if key == kind.arg.name && key != "class_mode" {
        *arg = small(value)?;
    } else if let Some(at) = kind.words.iter().position(|f| f.name == key) {
        payload[at] = number(value)?;
    } else {
        let all: Vec<&str> = kind.words.iter().map(|f| f.name).collect();
        return Err(format!("`{key}` is not a field of `{}`; there are {}", kind.name, all.join(", ")));
    }
    Ok(())
}

fn comm(text: &str) -> Result<[u8; 16]> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(hi), Some(lo)) => out.push((hi << 4 | lo) as u8),
            _ => return Err(format!("`{text}`: % is followed by two hexadecimal digits")),
        }
    }
    let mut comm = [0; 16];
    match comm.get_mut(..out.len()) {
        Some(place) => place.copy_from_slice(&out),
        None => return Err(format!("`{text}` is longer than a command name (16 bytes)")),
    }
    Ok(comm)
}
