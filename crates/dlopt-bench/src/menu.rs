//! What the budget solver chooses among: the schemes and shares of zeros that fit each tensor, by what they take and cost.

use std::collections::HashMap;

use dlopt_checkpoint::{Error, Header, Result};
use dlopt_quantize::{Quantize, fused_layers};

use crate::budget::{Choice, Item, Solution, least_bytes, path, solve};
use crate::picked::Picked;
use crate::sensitivity::{Change, TensorCosts};

/// How often a budget for the tensors is corrected by the size of the whole file.
const ROUNDS: usize = 16;
/// A size is hit when the file takes at least this share of it.
pub const HIT: f64 = 0.99;

/// Items for the solver, and what their choices stand for.
pub struct Menu {
    /// One for each tensor, or for several that have to be stored alike.
    pub items: Vec<Item>,
    /// The tensors of each item.
    pub tensors: Vec<Vec<String>>,
    /// What each choice of each item does; nothing where tensors stay as they are.
    changes: Vec<Vec<Option<Change>>>,
    /// The weights of each item.
    pub weights: Vec<u64>,
}

/// A choice whose file fits.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The choice.
    pub solution: Solution,
    /// What the whole file takes.
    pub file_bytes: u64,
}

impl Menu {
    /// Makes items of tensors; those that runtimes merge into one become one, with the changes that fit them all.
    ///
    /// # Errors
    /// When a change is unknown, or the config is broken.
    pub fn of(header: &Header, costs: &[TensorCosts]) -> Result<Self> {
        let mut together: HashMap<&str, usize> = HashMap::new();
        for (family, members) in fused_layers(header)?.iter().enumerate() {
            together.extend(members.iter().map(|at| (header.tensors[*at].name.as_str(), family)));
        }
        let mut groups: Vec<(Option<usize>, Vec<&TensorCosts>)> = Vec::new();
        for tensor in costs {
            let family = together.get(tensor.tensor.as_str()).copied();
            match groups.iter_mut().find(|(other, _)| family.is_some() && *other == family) {
                Some((_, members)) => members.push(tensor),
                None => groups.push((family, vec![tensor])),
            }
        }
        let mut menu = Self { items: Vec::new(), tensors: Vec::new(), changes: Vec::new(), weights: Vec::new() };
        for (_, members) in groups {
            let bytes = members.iter().map(|t| t.bytes).sum();
            let (mut choices, mut changes) = (vec![Choice { bytes, damage: 0.0 }], vec![None]);
            for cost in &members[0].costs {
                let own = members.iter().map(|t| t.costs.iter().find(|other| other.change == cost.change));
                let Some(own) = own.collect::<Option<Vec<_>>>() else { continue };
                choices.push(Choice {
                    bytes: own.iter().map(|c| c.bytes).sum(),
                    damage: own.iter().map(|c| c.damage).sum(),
                });
                changes.push(Some(Change::parse(&cost.change)?));
            }
            let names: Vec<String> = members.iter().map(|t| t.tensor.clone()).collect();
            menu.items.push(Item { name: names.join(" + "), choices });
            menu.tensors.push(names);
            menu.changes.push(changes);
            menu.weights.push(members.iter().map(|t| t.weights).sum());
        }
        Ok(menu)
    }

    /// What a choice stands for; nothing where the tensors stay as they are.
    pub fn change(&self, item: usize, pick: usize) -> Option<&Change> {
        self.changes[item][pick].as_ref()
    }

    /// The passes that do what was chosen, with one rule a tensor; they are otherwise like `base`.
    ///
    /// # Errors
    /// When the name of a tensor is no glob.
    pub fn picked(&self, base: &Quantize, picks: &[usize]) -> Result<Picked> {
        let each = self.tensors.iter().zip(&self.changes).zip(picks);
        Picked::of(base, each.flat_map(|((names, changes), pick)| names.iter().map(|name| (name, &changes[*pick]))))
    }

    /// The best choice whose tensors take at most so many bits a weight.
    ///
    /// # Errors
    /// When no choice takes so little; the least is stated.
    pub fn fit_bits(&self, bits_per_weight: f64) -> Result<Solution> {
        let weights = self.weights.iter().sum::<u64>() as f64;
        let bytes = (bits_per_weight * weights / 8.0).floor() as u64;
        let least = least_bytes(&self.items);
        if least > bytes {
            let bits = 8.0 * least as f64 / weights;
            return Err(Error::input(format!(
                "{bits_per_weight} bits a weight are below the smallest possible, {bits:.3} with scales"
            ))
            .hint(format!("--target-bits {:.2}, or smaller schemes in --choice", (100.0 * bits).ceil() / 100.0)));
        }
        solve(&self.items, bytes)
    }

    /// The best choice whose file takes at most `target_bytes`, and as near to them as there is one; `size_of` says
    /// what the file of a choice takes.
    ///
    /// What lies around the tensors depends on the choice: what the header says of a tensor is counted with it, as it is
    /// for the first one that a change is tried on, and the budget is corrected by what is left until the file fits.
    ///
    /// # Errors
    /// When the smallest file takes more, which the message states; those of `size_of`.
    pub fn fit_file(&self, target_bytes: u64, mut size_of: impl FnMut(&[usize]) -> Result<u64>) -> Result<Fitted> {
        let items = self.with_headers(&mut size_of)?;
        let least = least_bytes(&items);
        let smallest = solve(&items, least)?;
        let smallest_bytes = size_of(&smallest.picks)?;
        if smallest_bytes > target_bytes {
            return Err(Error::input(format!(
                "a file of {target_bytes} bytes is below the smallest possible, {smallest_bytes}"
            ))
            .hint(format!("--target-size {smallest_bytes}B, smaller schemes in --choice, or --include more tensors")));
        }
        let mut best = Fitted { file_bytes: smallest_bytes, solution: smallest };
        let mut budget = least + (target_bytes - smallest_bytes);
        // The largest budget whose file fits, and the least whose does not.
        let (mut low, mut high) = (least, u64::MAX);
        for _ in 0..ROUNDS {
            let solution = solve(&items, budget)?;
            let file_bytes = size_of(&solution.picks)?;
            let used = solution.bytes;
            if file_bytes <= target_bytes {
                low = low.max(budget);
                let gap = target_bytes - file_bytes;
                if solution.damage < best.solution.damage {
                    best = Fitted { solution, file_bytes };
                }
                budget = budget.max(used + gap);
                if gap == 0 || budget <= low {
                    budget = low + gap.max(1);
                }
            } else {
                high = high.min(used);
                budget = used.saturating_sub(file_bytes - target_bytes).max(least);
            }
            // What is corrected by may lead nowhere new; then what lies between is halved.
            if budget >= high || budget <= low {
                if high <= low.saturating_add(1) {
                    break;
                }
                budget = low.midpoint(high);
            }
        }
        best.solution.bytes =
            self.items.iter().zip(&best.solution.picks).map(|(item, at)| item.choices[*at].bytes).sum();
        Ok(best)
    }

    /// The items with what a file's header says of each change counted as the tensors' own. A change is tried on the first
    /// item that has it while the others are as small as can be, so that what is said once for all is in both sizes.
    fn with_headers(&self, size_of: &mut impl FnMut(&[usize]) -> Result<u64>) -> Result<Vec<Item>> {
        let mut items = self.items.clone();
        let smallest = |item: &Item| (0..item.choices.len()).min_by_key(|pick| item.choices[*pick].bytes).unwrap_or(0);
        let small: Vec<usize> = items.iter().map(smallest).collect();
        let mut known: HashMap<String, u64> = HashMap::new();
        for (at, item) in items.iter_mut().enumerate() {
            let mut size_with = |pick: usize| {
                let mut picks = small.clone();
                picks[at] = pick;
                size_of(&picks)
            };
            let (tensors, own) = (self.tensors[at].len() as u64, item.choices[0].bytes);
            let mut as_it_is = None;
            for (pick, choice) in item.choices.iter_mut().enumerate().skip(1) {
                let Some(change) = self.change(at, pick).map(Change::text) else { continue };
                let more = match known.get(&change) {
                    Some(more) => *more,
                    None => {
                        let before = match as_it_is {
                            Some(before) => before,
                            None => *as_it_is.insert(size_with(0)?),
                        };
                        let more = (size_with(pick)? + own).saturating_sub(before + choice.bytes) / tensors;
                        known.insert(change, more);
                        more
                    }
                };
                choice.bytes += more * tensors;
            }
        }
        Ok(items)
    }

    /// Gives tensors back their bits, the worst first, until `holds`: the smallest choice along the solver's path for which
    /// it does. Tries are halved, as more bits rarely hold less; the answer itself has been tried.
    ///
    /// # Errors
    /// When not even the tensors as they are hold; those of `holds`.
    pub fn give_back_until(&self, mut holds: impl FnMut(&[usize]) -> Result<bool>) -> Result<Vec<usize>> {
        let path = path(&self.items)?;
        let (mut fails, mut held) = (None, path.len() - 1);
        if !holds(&path[held])? {
            return Err(Error::input("not even the best choice of every tensor keeps the quality"));
        }
        while held > fails.map_or(0, |at: usize| at + 1) {
            let middle = fails.map_or(0, |at| at + 1).midpoint(held);
            if holds(&path[middle])? { held = middle } else { fails = Some(middle) }
        }
        Ok(path[held].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensitivity::Cost;

    fn costs(tensor: &str, weights: u64, of: &[(&str, u64, f64)]) -> TensorCosts {
        let cost = |(change, bytes, damage): &(&str, u64, f64)| Cost {
            change: (*change).to_owned(),
            bytes: *bytes,
            bits_per_weight: 8.0 * *bytes as f64 / weights as f64,
            relative_error: damage.sqrt(),
            damage: *damage,
            quality: None,
        };
        let costs = of.iter().map(cost).collect();
        TensorCosts { tensor: tensor.to_owned(), shape: vec![1], weights, bytes: 4 * weights, norm: 1.0, costs }
    }

    fn menu() -> Menu {
        let header = Header::default();
        let tensors = [
            costs("a", 100, &[("w8a16:channel", 110, 0.1), ("w4a16:channel", 60, 1.0)]),
            costs("b", 200, &[("w8a16:channel", 210, 0.2), ("w4a16:channel", 110, 3.0)]),
        ];
        Menu::of(&header, &tensors).unwrap()
    }

    #[test]
    fn a_file_is_hit_from_below_whatever_lies_around_the_tensors() {
        let menu = menu();
        // Each compressed tensor adds 50 bytes to a header of 200.
        let size = |picks: &[usize]| {
            let own: u64 = menu.items.iter().zip(picks).map(|(item, at)| item.choices[*at].bytes).sum();
            Ok(200 + own + 50 * picks.iter().filter(|at| **at > 0).count() as u64)
        };
        for target in [470, 520, 570, 620, 900, 5000] {
            let fitted = menu.fit_file(target, size).unwrap();
            // The best of all nine.
            let all = (0..3).flat_map(|a| (0..3).map(move |b| [a, b]));
            let fits = all.filter(|picks| size(picks).unwrap() <= target);
            let damage = |picks: &[usize; 2]| -> f64 {
                menu.items.iter().zip(picks).map(|(item, at)| item.choices[*at].damage).sum()
            };
            let least = fits.map(|picks| damage(&picks)).min_by(f64::total_cmp).unwrap();
            assert_eq!(fitted.solution.damage, least, "{target}");
            assert!(fitted.file_bytes <= target);
        }
        let error = menu.fit_file(469, size).unwrap_err();
        assert_eq!(error.message(), "a file of 469 bytes is below the smallest possible, 470");
    }

    #[test]
    fn bits_below_the_least_are_refused_with_the_least() {
        let error = menu().fit_bits(4.0).unwrap_err();
        assert_eq!(error.message(), "4 bits a weight are below the smallest possible, 4.533 with scales");
        assert_eq!(menu().fit_bits(4.54).unwrap().picks, [2, 2]);
    }

    #[test]
    fn bits_are_given_back_until_it_holds() {
        let menu = menu();
        let damage =
            |picks: &[usize]| -> f64 { menu.items.iter().zip(picks).map(|(item, at)| item.choices[*at].damage).sum() };
        let picks = menu.give_back_until(|picks| Ok(damage(picks) <= 1.3)).unwrap();
        // `b` was worst.
        assert_eq!(picks, [2, 1]);
        assert!(menu.give_back_until(|_| Ok(false)).is_err());
        assert_eq!(menu.give_back_until(|_| Ok(true)).unwrap(), [2, 2]);
    }
}
