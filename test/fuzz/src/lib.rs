//! Fuzz targets: bytes that nobody vouches for go into everything that reads a file or a request.
//! Each target takes any bytes and never panics, whatever they are; what it asserts besides stands
//! with it. The program `fuzz` feeds them from a corpus with a seeded mutator, on stable Rust and
//! without another tool; a target is a plain function, so that any other fuzzer can call it too.

pub mod bolt_file;
pub mod corpus;
pub mod mutate;
pub mod request;
pub mod snapshot;
pub mod wal_file;

use mutate::Reseal;

/// A target by its name.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The target; true if the bytes were good for something.
    pub run: fn(&[u8]) -> bool,
    /// Makes checksums right again, so that changes get past them.
    pub reseal: Reseal,
    /// What to begin with, made by our own code.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 4] = [
    Target { name: "wal", run: wal_file::run, reseal: wal_file::reseal, seeds: wal_file::seeds },
    Target {
        name: "bolt",
        run: bolt_file::run,
        reseal: bolt_file::reseal,
        seeds: bolt_file::seeds,
    },
    Target {
        name: "snapshot",
        run: snapshot::run,
        reseal: snapshot::reseal,
        seeds: snapshot::seeds,
    },
    Target { name: "request", run: request::run, reseal: request::reseal, seeds: request::seeds },
];

#[cfg(test)]
mod tests {
    use super::*;
    use mutate::Mutator;

    #[test]
    fn what_is_whole_is_sealed_already_and_good() {
        for target in TARGETS {
            let mut good = 0;
            for input in (target.seeds)() {
                let is_good = (target.run)(&input);
                good += usize::from(is_good);
                if is_good && target.name != "request" {
                    assert!((target.reseal)(input.clone()) == input, "{}", target.name);
                }
            }
            assert!(good * 2 >= (target.seeds)().len(), "{}: {good}", target.name);
        }
    }

    #[test]
    fn some_changes_get_past_the_checksums_and_some_do_not() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            let mutator = Mutator::new(&seeds, target.reseal, 1);
            let good = (0..400).filter(|number| (target.run)(&mutator.input(*number))).count();
            assert!((1..400).contains(&good), "{}: {good}", target.name);
        }
    }
}
