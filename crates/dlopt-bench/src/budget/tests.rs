use proptest::prelude::*;

use super::*;

fn item(name: &str, choices: &[(u64, f64)]) -> Item {
    let choices = choices.iter().map(|(bytes, damage)| Choice { bytes: *bytes, damage: *damage }).collect();
    Item { name: name.to_owned(), choices }
}

/// The least damage of all choices within the budget.
fn by_brute_force(items: &[Item], budget: u64) -> Option<f64> {
    let Some((first, rest)) = items.split_first() else { return Some(0.0) };
    let each = first.choices.iter().filter(|c| c.bytes <= budget);
    each.filter_map(|c| by_brute_force(rest, budget - c.bytes).map(|rest| rest + c.damage)).min_by(f64::total_cmp)
}

#[test]
fn by_hand() {
    // 20 bytes: the step of `a` saves 8 for 10 bytes, the first of `b` 6 for 5, the second of `b` 2 for 5.
    let items = [item("a", &[(5, 10.0), (15, 2.0)]), item("b", &[(5, 9.0), (10, 3.0), (15, 1.0)])];
    let solution = solve(&items, 22).unwrap();
    assert_eq!((solution.picks, solution.bytes, solution.damage), (vec![0, 2], 20, 11.0));
    // The linear program takes 7/10 of the step of `a` behind the first of `b`.
    assert!((solution.bound - (13.0 - 0.8 * 7.0)).abs() < 1e-9 && solution.is_optimal);
    let all = solve(&items, 1000).unwrap();
    assert_eq!((all.bytes, all.damage, all.gap()), (30, 3.0, 0.0));
}

#[test]
fn a_budget_below_the_smallest_states_it() {
    let items = [item("a", &[(5, 10.0), (15, 2.0)]), item("b", &[(7, 9.0)])];
    let error = solve(&items, 11).unwrap_err();
    assert_eq!(error.message(), "a budget of 11 bytes is below the smallest possible, 12");
    assert_eq!(solve(&items, 12).unwrap().picks, [0, 0]);
}

#[test]
fn what_says_nothing_is_refused() {
    assert!(solve(&[item("a", &[])], 10).unwrap_err().message().contains("`a` has no choice"));
    assert!(solve(&[item("a", &[(1, f64::NAN)])], 10).unwrap_err().message().contains("says nothing"));
    assert_eq!(solve(&[], 0).unwrap().damage, 0.0);
}

#[test]
fn the_path_begins_at_the_smallest_and_gives_bits_back_where_they_save_most() {
    let items = [item("a", &[(5, 10.0), (15, 2.0)]), item("b", &[(5, 9.0), (10, 3.0), (15, 1.0)])];
    assert_eq!(path(&items).unwrap(), [[0, 0], [0, 1], [1, 1], [1, 2]]);
}

/// A thousand tensors of sizes and sensitivities that differ by orders of magnitude.
fn many(items: usize, choices: usize) -> Vec<Item> {
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as f64 / f64::from(1u32 << 31)
    };
    let of = |i: usize, next: &mut dyn FnMut() -> f64| {
        let weights = (10f64.powf(3.0 + 3.0 * next())) as u64;
        let sensitivity = 10f64.powf(4.0 * next() - 2.0);
        let each = (0..choices).map(|c| {
            let bits = 2.0 + c as f64;
            (weights * (2 + c as u64) / 8, sensitivity * 4f64.powf(-bits) * (0.8 + 0.4 * next()))
        });
        item(&format!("t{i}"), &each.collect::<Vec<_>>())
    };
    (0..items).map(|i| of(i, &mut next)).collect()
}

#[test]
fn a_thousand_tensors_end_within_a_thousandth_of_the_bound() {
    let items = many(1000, 12);
    let most: u64 = items.iter().map(|i| i.choices[11].bytes).sum();
    for share in [0.2, 0.35, 0.5, 0.8] {
        let budget = (most as f64 * share) as u64;
        let solution = solve(&items, budget).unwrap();
        assert!(solution.bytes <= budget && solution.gap() <= 1e-3, "{share}: {}", solution.gap());
    }
}

fn items() -> impl Strategy<Value = (Vec<Item>, u64)> {
    let choice = (1u64..40, 0u32..100).prop_map(|(bytes, damage)| Choice { bytes, damage: f64::from(damage) / 7.0 });
    let choices = proptest::collection::vec(choice, 1..5);
    let items = proptest::collection::vec(choices, 1..6);
    let named = |all: Vec<Vec<Choice>>| {
        all.into_iter().map(|choices| Item { name: "t".to_owned(), choices }).collect::<Vec<_>>()
    };
    (items.prop_map(named), 0u64..180)
}

proptest! {
    #[test]
    fn no_choice_is_better_than_the_one_that_is_found((items, budget) in items()) {
        match (solve(&items, budget), by_brute_force(&items, budget)) {
            (Ok(found), Some(least)) => {
                prop_assert!(found.bytes <= budget);
                prop_assert!((found.damage - least).abs() < 1e-9, "{} {least}", found.damage);
                prop_assert!(found.bound <= least + 1e-9);
                prop_assert!(found.is_optimal);
            }
            (Err(error), None) => prop_assert!(error.message().contains("below the smallest possible")),
            (found, wanted) => prop_assert!(false, "{found:?} {wanted:?}"),
        }
    }
}
