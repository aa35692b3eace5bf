//! One random run: a kernel, tasks and their actions. Everything depends on the seed. Shrinking removes tasks and
//! actions while the run still fails.

use super::{
    kernel::{Kernel, Place},
    kernels::Protocol,
    programs::{Act, Maker},
    random::Random,
};

/// One task: its mm and its actions.
#[derive(Clone, Debug)]
pub struct Role {
    pub mm: usize,
    pub acts: Vec<Act>,
    pub seed: u64,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub protocol: Protocol,
    pub places: Vec<Place>,
    pub roles: Vec<Role>,
    /// Number of tasks that exist at the start.
    pub born: usize,
    pub schedule: u64,
    pub steps_max: usize,
}

impl Scenario {
    pub fn random(protocol: &Protocol, seed: u64) -> Scenario {
        let mut random = Random(seed);
        let mms = 2 + random.below(2);
        let mut places: Vec<Place> = (0..mms).map(|mm| Place { mm, vma: 0 }).collect();
        if random.once_in(4) {
            // Maps the file twice: two links of one mm to one table.
            places.push(Place { mm: random.below(mms), vma: 1 });
        }
        let born = mms + random.below(3);
        let mut roles: Vec<Role> = (0..born)
            .map(|no| {
                let mm = if no < mms { no } else { random.below(mms) };
                let n = 2 + random.below(5);
                let mut acts: Vec<Act> = (0..n).map(|_| act(protocol, &places, mm, &mut random)).collect();
                if no < mms {
                    acts.insert(0, Act::Fault(places[no]));
                }
                Role { mm, acts, seed: random.next() }
            })
            .collect();
        // Children have children, too.
        for _ in 0..random.below(3) {
            fork(protocol, &mut places, &mut roles, &mut random);
        }
        Scenario { protocol: *protocol, places, roles, born, schedule: random.next(), steps_max: 100_000 }
    }

    /// Runs it.
    pub fn run(&self) -> Kernel {
        let programs = self
            .roles
            .iter()
            .map(|r| (r.mm, Maker::program(&self.protocol, &self.places, r.mm, &r.acts, r.seed)))
            .collect();
        let mut kernel = Kernel::new(self.protocol, &self.places, programs, self.born, self.schedule);
        let steps = kernel.run(self.steps_max);
        assert!(steps >= self.steps_max || kernel.is_over(), "tasks wait for each other: {self:?}");
        kernel
    }
}

/// A thread, or a process with mappings of its own.
fn fork(protocol: &Protocol, places: &mut Vec<Place>, roles: &mut Vec<Role>, random: &mut Random) {
    let parent = random.below(roles.len());
    let mm = if random.once_in(2) {
        roles[parent].mm
    } else {
        let mm = places.iter().map(|p| p.mm).max().map_or(0, |m| m + 1);
        places.push(Place { mm, vma: 0 });
        mm
    };
    let n = 2 + random.below(3);
    let acts = (0..n).map(|_| act(protocol, places, mm, random)).collect();
    roles.push(Role { mm, acts, seed: random.next() });
    let child = roles.len() - 1;
    let at = random.below(roles[parent].acts.len() + 1);
    roles[parent].acts.insert(at, Act::Fork(child));
}

fn act(protocol: &Protocol, places: &[Place], mm: usize, random: &mut Random) -> Act {
    let own: Vec<Place> = places.iter().copied().filter(|p| p.mm == mm).collect();
    let own = own[random.below(own.len())];
    let any = places[random.below(places.len())];
    match random.below(27) {
        0..7 => Act::Fault(own),
        7 | 8 => Act::Walk(any),
        9 => Act::Walk(own),
        10 => Act::Gup(own),
        11 | 12 => Act::Gup(any),
        13 => Act::Restore,
        14 | 15 => Act::Punch,
        16 => Act::Migrate,
        17 => Act::Dontneed(own),
        18 => Act::Munmap(own),
        19 => Act::Mmap(own),
        20 => Act::Protect(own),
        21 if protocol.split => Act::Split(own),
        22 if protocol.moves => Act::Move(own),
        23 => Act::Sleep,
        24 => Act::Remap(own),
        25 | 26 if protocol.drops => Act::Poison(any),
        25 | 26 if protocol.sweeps => Act::Sweep(own),
        _ => Act::Fault(own),
    }
}

/// Returns a smaller scenario for which `fails` is true as well.
pub fn shrink(scenario: Scenario, fails: impl Fn(&Scenario) -> bool) -> Scenario {
    let mut small = scenario;
    'again: loop {
        for candidate in smaller(&small) {
            for attempt in 0..300 {
                let schedule = if attempt == 0 { small.schedule } else { Random(attempt).next() };
                let candidate = Scenario { schedule, ..candidate.clone() };
                if fails(&candidate) {
                    small = candidate;
                    continue 'again;
                }
            }
        }
        break;
    }
    // The first step at which it fails; later steps do not matter.
    let steps = (1..4000).find(|n| fails(&Scenario { steps_max: *n, ..small.clone() }));
    Scenario { steps_max: steps.unwrap_or(small.steps_max), ..small }
}

fn smaller(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    for (no, role) in scenario.roles.iter().enumerate() {
        if !role.acts.is_empty() && no < scenario.born {
            let mut less = scenario.clone();
            less.roles[no].acts.clear();
            all.push(less);
        }
        for at in 0..role.acts.len() {
            let mut less = scenario.clone();
            less.roles[no].acts.remove(at);
            all.push(less);
        }
    }
    for run_max in [40, 10, 1] {
        if scenario.protocol.run_max != run_max && run_max > scenario.protocol.run_max {
            let mut less = scenario.clone();
            less.protocol.run_max = run_max;
            all.push(less);
        }
    }
    all
}
