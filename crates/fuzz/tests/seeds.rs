//! Every seed and every input that once showed a bug, as an ordinary test.

use std::fs;
use std::path::Path;

#[test]
fn every_seed_passes() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    for (name, target) in clarion_fuzz::TARGETS {
        let folder = fs::read_dir(seeds.join(name)).expect("a folder of seeds for each target");
        let mut paths: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{name} has seeds");
        for path in paths {
            let input = fs::read(&path).expect("a seed");
            // The name of the one that fails.
            println!("{}", path.display());
            target(&input);
        }
    }
}

#[test]
fn every_target_takes_any_input() {
    let mut state = 1_u64;
    for (_, target) in clarion_fuzz::TARGETS {
        for size in 0..400 {
            let input: Vec<u8> = (0..size % 200)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            target(&input);
        }
    }
}
