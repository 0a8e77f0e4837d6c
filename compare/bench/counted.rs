// counted.c in Rust, with Rc and Weak; with Arc where threads share.

#![allow(unexpected_cfgs)]

use std::hint::black_box;
#[cfg(not(counted_shared))]
use std::rc::{Rc as Count, Weak};
#[cfg(counted_shared)]
use std::sync::{Arc as Count, Weak};
use std::sync::{Arc, Barrier};

const OPS: usize = 400 * TREES;
const TREES: usize = 256;
const NEAR: usize = 1000;
const STEPS: usize = 100_000;
const STACK_BYTES: usize = 1 << 30;

#[repr(C)]
struct Time {
    s: i64,
    ns: i64,
}

extern "C" {
    fn clock_gettime(clock: i32, time: *mut Time) -> i32;
}

const WALL: i32 = 1;
const PROCESS: i32 = 2;
const THREAD: i32 = 3;

fn now(clock: i32) -> f64 {
    let mut time = Time { s: 0, ns: 0 };
    unsafe { clock_gettime(clock, &mut time) };
    time.s as f64 * 1e9 + time.ns as f64
}

fn status_kb(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[derive(Default)]
struct Node {
    left: Ref,
    right: Ref,
    value: u64,
}

type Ref = Option<Count<Node>>;
type Notes = Vec<(&'static str, f64)>;

struct Run {
    variant: String,
    size: usize,
    rounds: usize,
    threads: usize,
    seed: u64,
    notes: Notes,
}

fn make(value: u64) -> Count<Node> {
    Count::new(Node { left: None, right: None, value })
}

fn random(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

fn hot(run: &mut Run) -> u64 {
    let steps = run.rounds * STEPS;
    let one = make(7);
    let start = now(THREAD);
    for _ in 0..steps {
        black_box(black_box(&one).clone());
    }
    run.notes.push(("op_ns", (now(THREAD) - start) / steps as f64));
    one.value
}

fn slots(run: &mut Run) -> u64 {
    let (count, steps) = (run.size, run.rounds * STEPS);
    let objects: Vec<_> = (0..count as u64).map(make).collect();
    let mut slots = objects.clone();
    let mut state = run.seed;
    let start = now(THREAD);
    for step in 0..steps {
        slots[step & (count - 1)] =
            objects[random(&mut state) & (count - 1)].clone();
    }
    run.notes.push(("op_ns", (now(THREAD) - start) / steps as f64));
    slots.iter().fold(0u64, |sum, one| {
        sum.wrapping_mul(31).wrapping_add(one.value)
    })
}

#[cfg(counted_shared)]
fn both(run: &mut Run) -> u64 {
    let steps = run.rounds * STEPS;
    let one = make(7);
    let gate = Arc::new(Barrier::new(2));
    let (theirs, far_gate) = (one.clone(), gate.clone());
    let touch = move |one: &Count<Node>| {
        for _ in 0..steps {
            black_box(black_box(one).clone());
        }
    };
    let other = std::thread::spawn(move || {
        far_gate.wait();
        touch(&theirs);
    });
    gate.wait();
    let start = now(WALL);
    touch(&one);
    other.join().unwrap();
    run.notes.push(("op_ns", (now(WALL) - start) / steps as f64));
    one.value
}

#[cfg(not(counted_shared))]
fn both(_run: &mut Run) -> u64 {
    let _ = (Arc::new(Barrier::new(2)), WALL);
    0
}

fn list(count: usize) -> (Ref, u64) {
    let mut root = make(0);
    let mut tail = &mut root;
    let mut sum = 0;
    for at in 1..count as u64 {
        sum += at;
        let node = Count::get_mut(tail).unwrap();
        tail = node.right.insert(make(at));
    }
    (Some(root), sum)
}

fn tree(count: usize) -> (Ref, u64) {
    if count == 0 {
        return (None, 0);
    }
    let mut root = make(count as u64);
    let half = (count - 1) / 2;
    let node = Count::get_mut(&mut root).unwrap();
    let (left, left_sum) = tree(half);
    let (right, right_sum) = tree(count - 1 - half);
    (node.left, node.right) = (left, right);
    (Some(root), left_sum + right_sum + count as u64)
}

fn release(run: &mut Run) -> u64 {
    let count = run.size * 1000;
    let (mut total, mut spent) = (0, 0.0);
    for _ in 0..run.rounds {
        let (all, sum) =
            if run.variant == "list" { list(count) } else { tree(count) };
        total += sum;
        let start = now(THREAD);
        drop(all);
        spent += now(THREAD) - start;
    }
    run.notes.push(("op_ns", spent / (run.rounds * count) as f64));
    total
}

fn lazy(run: &mut Run) -> u64 {
    let count = run.size * 1000 / TREES;
    let mut trees = Vec::new();
    let mut total = 0;
    for _ in 0..TREES {
        let (root, sum) = tree(count);
        trees.push(root);
        total += sum;
    }
    let mut spent: Vec<f64> = (0..OPS)
        .map(|at| {
            let one = if at % (OPS / TREES) == 0 {
                trees[at / (OPS / TREES)].take()
            } else {
                Some(make(0))
            };
            let start = now(WALL);
            drop(black_box(one));
            (now(WALL) - start) / 1e3
        })
        .collect();
    spent.sort_by(f64::total_cmp);
    run.notes.push(("p50_us", spent[OPS / 2]));
    run.notes.push(("p999_us", spent[(OPS as f64 * 0.999) as usize]));
    run.notes.push(("max_us", spent[OPS - 1]));
    total
}

fn new(run: &mut Run) -> u64 {
    let steps = run.rounds * STEPS / 4;
    let mut sum = 0;
    let start = now(THREAD);
    for step in 0..steps as u64 {
        sum += black_box(make(step)).value;
    }
    run.notes.push(("op_ns", (now(THREAD) - start) / steps as f64));
    sum
}

fn read(weak: &Weak<Node>) -> u64 {
    weak.upgrade().map_or(0, |node| node.value)
}

fn weaks(run: &mut Run) -> u64 {
    let (count, steps) = (run.size * 1000, run.rounds * 1000);
    let mut objects: Vec<Ref> =
        (0..count as u64).map(|at| Some(make(at))).collect();
    let mut sum = 0;
    let start = now(THREAD);
    let weaks: Vec<_> = objects
        .iter()
        .map(|one| Count::downgrade(one.as_ref().unwrap()))
        .collect();
    run.notes.push(("make_ns", (now(THREAD) - start) / count as f64));
    let start = now(THREAD);
    for _ in 0..steps {
        for weak in &weaks[..NEAR] {
            sum += read(weak);
        }
    }
    let reads = (steps * NEAR) as f64;
    run.notes.push(("get_ns", (now(THREAD) - start) / reads));
    let mut state = run.seed;
    let start = now(THREAD);
    for _ in 0..count {
        sum += read(&weaks[random(&mut state) % count]);
    }
    run.notes.push(("get_far_ns", (now(THREAD) - start) / count as f64));
    for at in 0..count {
        if at % 2 == 0 {
            objects[at] = None;
        }
        sum += read(&weaks[at]);
        objects[at] = None;
    }
    sum
}

fn bytes(run: &mut Run) -> u64 {
    let count = run.size * 1000;
    let mut all: Vec<Ref> = vec![None; count];
    for one in &mut all {
        black_box(one).take();
    }
    let before = status_kb("VmRSS:") as f64;
    for (at, one) in all.iter_mut().enumerate() {
        *one = Some(make(at as u64));
    }
    let kb = status_kb("VmRSS:") as f64 - before;
    run.notes.push(("bytes_object", kb * 1024.0 / count as f64));
    all.iter().fold(0u64, |sum, one| {
        sum.wrapping_mul(31).wrapping_add(one.as_ref().unwrap().value)
    })
}

fn work(mut run: Run) {
    if run.threads > 1 {
        std::thread::spawn(|| ()).join().unwrap();
    }
    let start_kb = status_kb("VmRSS:");
    let (wall, cpu) = (now(WALL), now(PROCESS));
    let sum = match run.variant.as_str() {
        "hot" => hot(&mut run),
        "slots" => slots(&mut run),
        "both" => both(&mut run),
        "lazy" => lazy(&mut run),
        "new" => new(&mut run),
        "weak" => weaks(&mut run),
        "bytes" => bytes(&mut run),
        _ => release(&mut run),
    };
    print!(
        "{{\"bench\":\"counted\",\"variant\":\"{}\",\"collector\":\"rust\",\
         \"config\":\"Rust\",\"sum\":\"{:016x}\",\"ms\":{:.3},\
         \"cpu_ms\":{:.3},\"size\":{},\"peak_rss_kb\":{},\
         \"start_rss_kb\":{start_kb},\"metadata_bytes\":0,\
         \"live_bytes\":0,\"allocated_bytes\":0",
        run.variant,
        sum.wrapping_mul(31),
        (now(WALL) - wall) / 1e6,
        (now(PROCESS) - cpu) / 1e6,
        run.size,
        status_kb("VmHWM:")
    );
    for (name, value) in &run.notes {
        print!(",\"{name}\":{value:.6}");
    }
    println!("}}");
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let text = |name: &str, normal: &str| {
        words
            .iter()
            .position(|word| word == name)
            .map_or(normal.to_string(), |at| words[at + 1].clone())
    };
    let number = |name: &str, normal| text(name, normal).parse().unwrap();
    let run = Run {
        variant: text("--variant", "hot"),
        size: number("--size", "128"),
        rounds: number("--rounds", "3"),
        threads: number("--threads", "1"),
        seed: number("--seed", "1") as u64,
        notes: Notes::new(),
    };
    // A drop recurses.
    std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || work(run))
        .unwrap()
        .join()
        .unwrap();
}
