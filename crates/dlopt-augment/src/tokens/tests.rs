//! What holds for operations on tokens.

use serde_json::{Value, json};

use crate::draws::Key;
use crate::operations::OPERATIONS;
use crate::recipe::Recipe;
use crate::sample::{Data, Form, Sample, Scratch};

const VOCABULARY: usize = 50;

fn sequence(steps: usize, time: usize) -> Sample {
    let tokens = (0..time).map(|at| if at < steps { 2 + (at * 7 % 48) as u32 } else { 0 }).collect();
    Sample { form: Form::Tokens { time, vocabulary: VOCABULARY }, data: Data::Tokens(tokens), steps }
}

fn after(op: &Value, sample: &Sample, number: u64) -> Sample {
    let mut sample = sample.clone();
    let recipe = Recipe::of(&json!([op])).unwrap();
    recipe.check(&sample.form).unwrap();
    recipe.apply(&mut sample, Key { seed: 3, round: 1, sample: number }, &mut Scratch::default());
    sample
}

fn tokens(sample: &Sample) -> &[u32] {
    let Data::Tokens(tokens) = &sample.data else { panic!() };
    assert!(tokens[sample.steps..].iter().all(|&token| token == 0), "padding holds tokens");
    &tokens[..sample.steps]
}

#[test]
fn options_that_change_nothing_leave_every_token() {
    for op in ["token-deletion=0", "token-swap=0", "token-mask=0", "token-insertion=0", "word-dropout=0", "span-crop=1"]
    {
        for (steps, time) in [(1, 1), (5, 9), (13, 13)] {
            assert_eq!(after(&json!({ "op": op }), &sequence(steps, time), 4), sequence(steps, time), "{op}");
        }
    }
}

#[test]
fn padding_stays_and_a_token_is_left() {
    for kind in OPERATIONS.iter().filter(|kind| kind.kinds.tokens) {
        let mut changes = 0;
        for number in 0..40 {
            for (steps, time) in [(1, 1), (1, 6), (11, 17), (17, 17)] {
                let own = sequence(steps, time);
                let other = after(&json!({ "op": kind.name }), &own, number);
                assert!((1..=time).contains(&tokens(&other).len()), "{}", kind.name);
                assert!(
                    tokens(&other)
                        .iter()
                        .all(|&token| (1..VOCABULARY as u32).contains(&token) || kind.name == "token-mask")
                );
                changes += usize::from(other != own);
            }
        }
        assert!(changes > 20, "{}", kind.name);
    }
}

#[test]
fn deleting_all_leaves_one_of_them() {
    let own = sequence(11, 17);
    let mut left = std::collections::BTreeSet::new();
    for number in 0..200 {
        let other = after(&json!({ "op": "token-deletion=1" }), &own, number);
        assert_eq!(other.steps, 1);
        left.insert(tokens(&other)[0]);
    }
    assert_eq!(left.into_iter().collect::<Vec<_>>(), {
        let mut all = tokens(&own).to_vec();
        all.sort_unstable();
        all
    });
}

#[test]
fn rates_are_kept() {
    let own = sequence(2000, 2000);
    let changed = |op: Value| {
        let other = after(&op, &own, 0);
        tokens(&own).iter().zip(tokens(&other)).filter(|(a, b)| a != b).count()
    };
    let deleted = after(&json!({ "op": "token-deletion=0.3" }), &own, 0);
    // Five deviations of a binomial count.
    assert!((2000 - deleted.steps).abs_diff(600) < 103);
    assert!(changed(json!({ "op": "word-dropout=0.3" })).abs_diff(600) < 103);
    assert!(changed(json!({ "op": "token-mask=0.3", "token": 0, "keep": 0.5, "random": 0 })).abs_diff(300) < 80);
    // Of any token, one in fifty is the same.
    assert!(changed(json!({ "op": "token-mask=0.3", "keep": 0, "random": 1 })).abs_diff(588) < 103);
    assert_eq!(changed(json!({ "op": "word-dropout=1" })), 2000);
}

#[test]
fn swaps_keep_all_tokens_and_their_distance() {
    let sorted = |sample: &Sample| {
        let mut all = tokens(sample).to_vec();
        all.sort_unstable();
        all
    };
    let own = sequence(9, 12);
    for number in 0..50 {
        let other = after(&json!({ "op": "token-swap=0.5" }), &own, number);
        assert_eq!(sorted(&other), sorted(&own));
        let near = after(&json!({ "op": "token-swap=0.01,distance=1" }), &own, number);
        let places: Vec<usize> = (0..9).filter(|&at| tokens(&near)[at] != tokens(&own)[at]).collect();
        assert!(places.len() == 2 && places[1] == places[0] + 1, "{places:?}");
    }
}

#[test]
fn insertions_and_crops_keep_the_order_of_the_rest() {
    let own = sequence(9, 20);
    for number in 0..50 {
        let longer = after(&json!({ "op": "token-insertion=0.4" }), &own, number);
        assert_eq!(longer.steps, 9 + 4);
        let mut rest = tokens(&longer).iter();
        assert!(tokens(&own).iter().all(|token| rest.any(|other| other == token)));
        let full = after(&json!({ "op": "token-insertion=0.4" }), &sequence(19, 20), number);
        assert_eq!(full.steps, 20);
        let part = after(&json!({ "op": "span-crop=0.5" }), &own, number);
        assert_eq!(part.steps, 5);
        assert!(tokens(&own).windows(5).any(|run| run == tokens(&part)));
    }
}

#[test]
fn what_is_out_of_range_is_refused_with_the_range() {
    let refused = |op: &str| {
        let made = Recipe::of_ops(&[op]).and_then(|recipe| recipe.check(&Form::Tokens { time: 3, vocabulary: 5 }));
        made.unwrap_err().message().to_owned()
    };
    for (op, message) in [
        ("token-deletion=1.5", "`token-deletion`: rate is 1.5; wanted 0 to 1 of the tokens"),
        ("token-swap=-0.1", "share is -0.1; wanted 0 to 1"),
        ("token-swap=0.1,distance=0", "distance is 0; wanted 1 or more tokens"),
        ("token-mask=0.1,random=0.6,keep=0.5", "are more than 1 together"),
        ("token-mask=0.1,token=5", "token is token 5; wanted 0 to 4"),
        ("token-insertion=0.1,first=5", "first is token 5; wanted 0 to 4"),
        ("word-dropout=0.1,token=9", "token is token 9; wanted 0 to 4"),
        ("span-crop=2", "share is 2; wanted 0 to 1"),
    ] {
        let said = refused(op);
        assert!(said.contains(message), "{said}");
    }
    let error = Recipe::of_ops(&["span-crop"]).unwrap().check(&Form::Row { features: 3 }).unwrap_err();
    assert!(error.message().contains("`span-crop` is for tokens"), "{error}");
}
