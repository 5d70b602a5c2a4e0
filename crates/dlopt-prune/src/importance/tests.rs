//! Scores by hand.

use super::*;
use crate::coupling::Member;

fn scores(name: &str, seed: u64, member: &Member, channels: usize, shape: &[usize], values: &[f32]) -> Vec<f64> {
    importance_named(name).unwrap().scores(&Pieces::new(member, channels, shape, values), seed)
}

fn rows(tensor: &str) -> Member {
    Member { tensor: tensor.into(), axis: 0, part: Part::Writes, entries: vec![0, 1, 2], per_channel: 1, blocks: 1 }
}

#[test]
fn norms_add_up_the_weights_of_a_channel() {
    let weight = [1.0, -2.0, 0.0, 0.5, -3.0, 4.0];
    assert_eq!(scores("l1", 0, &rows("w"), 3, &[3, 2], &weight), [3.0, 0.5, 7.0]);
    assert_eq!(scores("l2", 0, &rows("w"), 3, &[3, 2], &weight), [5.0, 0.25, 25.0]);
    assert_eq!(scores("scale", 0, &rows("w"), 3, &[3], &[0.5, -2.0, 0.0]), [0.5, 2.0, 0.0]);
    let columns = Member { axis: 1, part: Part::Reads, entries: vec![0, 2, 1, 3], per_channel: 2, ..rows("w") };
    assert_eq!(scores("l1", 0, &columns, 2, &[1, 4], &[1.0, 10.0, -2.0, 20.0]), [3.0, 30.0]);
}

#[test]
fn the_channel_in_the_middle_is_the_one_to_spare() {
    // Three points on a line, at 0, 5 and 15.
    let weight = [0.0, 0.0, 3.0, 4.0, 9.0, 12.0];
    assert_eq!(scores("geometric-median", 0, &rows("w"), 3, &[3, 2], &weight), [20.0, 15.0, 25.0]);
    assert_eq!(scores("geometric-median", 0, &rows("w"), 3, &[3, 0], &[]), [0.0; 3]);
}

#[test]
fn draws_depend_on_seed_and_tensor_alone() {
    let draw = |seed, tensor: &str, fill: f32| scores("random", seed, &rows(tensor), 3, &[3, 1], &[fill; 3]);
    assert_eq!(draw(1, "a", 0.0), draw(1, "a", 5.0));
    assert_ne!(draw(1, "a", 0.0), draw(2, "a", 0.0));
    assert_ne!(draw(1, "a", 0.0), draw(1, "b", 0.0));
    assert!(draw(1, "a", 0.0).iter().all(|score| (0.0..=1.0).contains(score)));
}

#[test]
fn criteria_count_the_tensors_that_they_are_about() {
    let counts = |name: &str| {
        let own = importance_named(name).unwrap();
        [Part::Writes, Part::Reads, Part::Scales, Part::Follows].map(|part| own.counts(part))
    };
    assert_eq!(counts("l1"), [true, true, true, false]);
    assert_eq!(counts("scale"), [false, false, true, false]);
    assert_eq!(counts("geometric-median"), [true, false, false, false]);
    assert!(importance_named("random").unwrap().is_seeded() && !importance_named("l2").unwrap().is_seeded());
    let error = importance_named("l3").err().unwrap();
    assert_eq!(error.what_to_try(), Some("one of l2, l1, scale, geometric-median, random"));
}
