//! Importance, choice and slices by hand.

use super::*;
use crate::importance::importance_named;

fn l2() -> &'static dyn Importance {
    importance_named("l2").unwrap()
}

fn member(tensor: &str, axis: usize, entries: &[usize], per_channel: usize) -> Member {
    Member { tensor: tensor.into(), axis, part: Part::Writes, entries: entries.into(), per_channel, blocks: 1 }
}

fn group(channels: usize, members: Vec<Member>) -> Group {
    Group { channels, members, made_by: Maker::Dense, fixed: None, runs: 1 }
}

#[test]
fn every_member_counts_as_a_share_of_its_own_total() {
    let own = group(2, vec![member("a", 0, &[0, 1], 1), member("b", 1, &[0, 2, 1, 3], 2), member("c", 0, &[0, 1], 1)]);
    // Rows of `a`: 25 and 75 of 100; columns 0, 2 of `b`: 2, columns 1, 3: 8; `c` does not count, `d` is nobody's.
    let a = [3.0, 4.0, 5.0, 50.0_f32.sqrt()];
    let b = [1.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0, -2.0];
    let found = own.importance(l2(), |member| match member.tensor.as_str() {
        "a" => Some((&[2, 2], &a)),
        "b" => Some((&[2, 4], &b)),
        _ => None,
    });
    // The root of 50 is rounded.
    assert!((found[0] - (0.25 + 0.2)).abs() < 1e-6 && (found[1] - (0.75 + 0.8)).abs() < 1e-6, "{found:?}");
    let zeros = own.importance(l2(), |_| Some((&[2, 4], &[0.0; 8])));
    assert_eq!(zeros, [0.0, 0.0]);
}

#[test]
fn inputs_of_a_grouped_convolution_are_read_by_their_own_rows() {
    // Two groups of two inputs, four outputs `[4, 2]`: rows 0 and 1 read channels 0 and 1, rows 2 and 3 the others.
    let reads = Member { blocks: 2, ..member("w", 1, &[0, 1, 0, 1], 1) };
    let own = Group { runs: 2, ..group(4, vec![reads]) };
    let weight = [1.0, 0.0, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0];
    let found = own.importance(l2(), |_| Some((&[4, 2], &weight)));
    let total = 2.0 + 4.0 + 10.0 + 2.0;
    assert_eq!(found, [2.0 / total, 4.0 / total, 10.0 / total, 2.0 / total]);
    let kept = own.strongest(&found, 2).unwrap();
    assert_eq!(kept, [1, 2]);
    let coupling = Coupling { groups: vec![own], sizes: vec![vec![0]] };
    let slices = Cut::new(&coupling, vec![kept]).slices("w", &[4, 2]);
    assert_eq!(slices.shape, [4, 1]);
    assert_eq!(slices.of(&weight), [0.0, 2.0, 3.0, 1.0]);
}

#[test]
fn the_strongest_keep_their_order_and_the_first_of_equals_stays() {
    let own = group(5, Vec::new());
    assert_eq!(own.strongest(&[1.0, 3.0, 1.0, 9.0, 1.0], 3).unwrap(), [0, 1, 3]);
    assert_eq!(own.strongest(&[0.0; 5], 2).unwrap(), [0, 1]);
    assert_eq!(own.strongest(&[0.0; 5], 5).unwrap(), [0, 1, 2, 3, 4]);
    let runs = Group { runs: 2, ..group(4, Vec::new()) };
    assert_eq!(runs.strongest(&[9.0, 8.0, 1.0, 2.0], 2).unwrap(), [0, 3]);
}

#[test]
fn a_choice_that_cannot_be_made_is_refused() {
    let own = Group { runs: 2, ..group(4, Vec::new()) };
    let refused = |own: &Group, count| own.strongest(&[1.0; 4], count).unwrap_err().message().to_owned();
    assert_eq!(refused(&own, 3), "3 channels of 4, as many in each of 2 runs");
    assert_eq!(refused(&group(4, Vec::new()), 0), "0 channels of 4");
    assert_eq!(refused(&group(4, Vec::new()), 5), "5 channels of 4");
    let fixed = Group { fixed: Some("it comes out".into()), ..own };
    assert_eq!(refused(&fixed, 2), "2 of 4 channels that cannot be cut");
    assert!(fixed.strongest(&[1.0; 4], 4).is_ok());
}

#[test]
fn both_axes_are_cut_and_what_no_group_has_stays() {
    let coupling = Coupling {
        groups: vec![
            group(3, vec![member("w", 0, &[0, 1, 2], 1), member("b", 0, &[0, 1, 2], 1)]),
            group(2, vec![member("w", 1, &[0, 1, 2, 3], 2)]),
        ],
        sizes: vec![vec![0], vec![1]],
    };
    let cut = Cut::new(&coupling, vec![vec![0, 2], vec![1]]);
    let weight: Vec<u8> = (0..24).collect();
    let slices = cut.slices("w", &[3, 4, 2]);
    assert_eq!((slices.shape.as_slice(), slices.is_whole()), (&[2, 2, 2][..], false));
    assert_eq!(slices.of(&weight), [4, 5, 6, 7, 20, 21, 22, 23]);
    assert_eq!(cut.slices("b", &[3]).of(&[7, 8, 9]), [7, 9]);
    let other = cut.slices("other", &[2, 3]);
    assert!(other.is_whole());
    assert_eq!(other.of(&[1, 2, 3, 4, 5, 6]), [1, 2, 3, 4, 5, 6]);
}
