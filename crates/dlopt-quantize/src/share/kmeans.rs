//! The values that weighted points on a line are best replaced by: k-means in one dimension, to the optimum.
//!
//! `cost(c, j) = min over i of cost(c - 1, i) + scatter(i..j)`, where the best `i` never falls as `j` grows, so a row of the
//! table is found by halving. Wang and Song, 2011, Ckmeans.1d.dp; Grønlund et al., 2017, arXiv:1701.07204.

/// Weights in a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) value: f64,
    pub(crate) weight: f64,
}

/// Sums over points, for the scatter of a run of them.
struct Sums {
    weight: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    /// Values are taken from here, so that squares do not swallow differences.
    origin: f64,
}

impl Sums {
    fn of(points: &[Point]) -> Self {
        let total: f64 = points.iter().map(|p| p.weight).sum();
        let origin = points.iter().map(|p| p.value * p.weight).sum::<f64>() / total.max(1.0);
        let mut sums = Self { weight: vec![0.0], first: vec![0.0], second: vec![0.0], origin };
        for (i, point) in points.iter().enumerate() {
            let x = point.value - origin;
            sums.weight.push(sums.weight[i] + point.weight);
            sums.first.push(sums.first[i] + point.weight * x);
            sums.second.push(sums.second[i] + point.weight * x * x);
        }
        sums
    }

    fn mean(&self, begin: usize, end: usize) -> f64 {
        self.origin + (self.first[end] - self.first[begin]) / (self.weight[end] - self.weight[begin])
    }

    /// The squared distances of a run to its mean.
    fn scatter(&self, begin: usize, end: usize) -> f64 {
        let (weight, first) = (self.weight[end] - self.weight[begin], self.first[end] - self.first[begin]);
        if weight > 0.0 { (self.second[end] - self.second[begin] - first * first / weight).max(0.0) } else { 0.0 }
    }
}

/// For each number of values from 0 on the least cost, and how to get there.
struct Table {
    /// `[values][points]`: the cost of the first points by so many values.
    costs: Vec<f64>,
    /// Where the last run begins: `[values][points]`.
    begins: Vec<Vec<u32>>,
}

impl Table {
    /// By at most `most` values. Points ascend.
    fn of(sums: &Sums, points: usize, most: usize) -> Self {
        let mut row: Vec<f64> = (0..=points).map(|end| if end == 0 { 0.0 } else { f64::INFINITY }).collect();
        let mut table = Self { costs: vec![row[points]], begins: vec![vec![0; points + 1]] };
        for values in 1..=most.min(points) {
            let mut next = vec![f64::INFINITY; points + 1];
            let mut begins = vec![0; points + 1];
            // Runs of ends that are still to be found, with the begins that they can have.
            let mut open = vec![(values, points, values - 1, points - 1)];
            while let Some((low, high, least, most)) = open.pop() {
                if low > high {
                    continue;
                }
                let end = usize::midpoint(low, high);
                let mut best = (f64::INFINITY, least);
                for begin in least..=most.min(end - 1) {
                    let cost = row[begin] + sums.scatter(begin, end);
                    if cost < best.0 {
                        best = (cost, begin);
                    }
                }
                (next[end], begins[end]) = (best.0, best.1 as u32);
                open.push((low, end - 1, least, best.1));
                open.push((end + 1, high, best.1, most));
            }
            table.costs.push(next[points]);
            table.begins.push(begins);
            row = next;
        }
        table
    }

    /// The means of the runs that `values` values stand for.
    fn means(&self, sums: &Sums, points: usize, values: usize) -> Vec<f64> {
        let mut end = points;
        let mut means: Vec<f64> = (1..=values)
            .rev()
            .map(|values| {
                let begin = self.begins[values][end] as usize;
                let mean = sums.mean(begin, end);
                end = begin;
                mean
            })
            .collect();
        means.reverse();
        means
    }
}

/// At most `most` ascending values with the least squared distance to the points, which ascend and are not 0. With `has_zero`
/// one of the values is 0, and stands for zeros alone.
pub(crate) fn values(points: &[Point], most: usize, has_zero: bool) -> Vec<f64> {
    if !has_zero {
        let sums = Sums::of(points);
        let values = most.min(points.len());
        return Table::of(&sums, points.len(), values).means(&sums, points.len(), values);
    }
    let middle = points.partition_point(|point| point.value < 0.0);
    let (below, above) = points.split_at(middle);
    let sums = [Sums::of(below), Sums::of(above)];
    let most = most - 1;
    let tables = [Table::of(&sums[0], below.len(), most), Table::of(&sums[1], above.len(), most)];
    let cost = |side: usize, values: usize| tables[side].costs.get(values).copied();
    let shared = (0..=most.min(below.len())).filter_map(|of_below| {
        let of_above = (most - of_below).min(above.len());
        Some((cost(0, of_below)? + cost(1, of_above)?, of_below, of_above))
    });
    let best = shared.min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, of_below, of_above) = best.unwrap_or((0.0, 0, 0));
    let mut values = tables[0].means(&sums[0], below.len(), of_below);
    values.push(0.0);
    values.extend(tables[1].means(&sums[1], above.len(), of_above));
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cost(points: &[Point], values: &[f64]) -> f64 {
        let nearest = |x: f64| values.iter().map(|v| (x - v) * (x - v)).fold(f64::INFINITY, f64::min);
        points.iter().map(|p| p.weight * nearest(p.value)).sum()
    }

    /// The least cost of all ways to cut the points into runs.
    fn least(points: &[Point], runs: usize) -> f64 {
        if points.is_empty() {
            return 0.0;
        }
        if runs == 0 {
            return f64::INFINITY;
        }
        let sums = Sums::of(points);
        (0..points.len())
            .map(|begin| least(&points[..begin], runs - 1) + sums.scatter(begin, points.len()))
            .fold(f64::INFINITY, f64::min)
    }

    fn points(values: &[f64]) -> Vec<Point> {
        values.iter().map(|&value| Point { value, weight: 1.0 }).collect()
    }

    /// `fixtures/codebook/make.py`: by the package kmeans1d, another implementation of the optimum.
    #[test]
    fn the_values_are_those_of_kmeans1d() {
        let text = include_str!("../../../../fixtures/codebook/kmeans1d.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
        assert!(cases.len() >= 8);
        for case in cases {
            let numbers =
                |key: &str| -> Vec<f64> { case[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect() };
            let (x, wanted) = (numbers("x"), numbers("centroids"));
            let found = values(&points(&x), wanted.len(), false);
            assert_eq!(found.len(), wanted.len());
            let (own, theirs) = (cost(&points(&x), &found), cost(&points(&x), &wanted));
            assert!((own - theirs).abs() <= 1e-9 * theirs.max(1e-9), "{own} {theirs}");
            assert!(found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {wanted:?}");
        }
    }

    #[test]
    fn zero_stays_alone() {
        let x = points(&[-5.0, -4.9, -0.1, 0.2, 0.3, 9.0]);
        assert_eq!(values(&x, 1, true), [0.0]);
        let found = values(&x, 4, true);
        assert_eq!(found.len(), 4);
        assert_eq!(found[1], 0.0);
        assert!(found[0] < -3.0 && found[2] < 0.5 && found[3] == 9.0, "{found:?}");
        assert_eq!(values(&[], 8, true), [0.0]);
        assert_eq!(values(&x, 40, true).len(), 7);
        assert!(values(&[], 8, false).is_empty());
    }

    proptest! {
        #[test]
        fn no_other_runs_are_better(
            mut x in proptest::collection::vec((-100_i32..100, 1_u32..5), 0..11),
            most in 1_usize..5,
            has_zero: bool,
        ) {
            x.retain(|(x, _)| *x != 0);
            x.sort_unstable();
            x.dedup_by_key(|(x, _)| *x);
            let points: Vec<Point> =
                x.iter().map(|&(x, w)| Point { value: f64::from(x) / 8.0, weight: f64::from(w) }).collect();
            let found = values(&points, most, has_zero);
            prop_assert!(found.len() <= most && found.is_sorted());
            if has_zero {
                let middle = points.partition_point(|p| p.value < 0.0);
                let best = (0..most).map(|below| least(&points[..middle], below) + least(&points[middle..], most - 1 - below));
                let best = best.fold(f64::INFINITY, f64::min);
                if best.is_finite() {
                    prop_assert!(cost(&points, &found) <= best + 1e-9, "{:?}", found);
                }
            } else if !points.is_empty() {
                let best = (1..=most).map(|runs| least(&points, runs)).fold(f64::INFINITY, f64::min);
                prop_assert!((cost(&points, &found) - best).abs() < 1e-9, "{:?}", found);
            }
        }
    }
}
