//! The teacher's weights in the student.
//!
//! For every group of the teacher's coupling graph the channels that matter most are kept, in their order; of equals the
//! first. Importance is that of [`dlopt_prune::Group::importance`] by `l2`, over the weights and scales that the student has:
//! biases, shifts and running statistics say where a channel lies, not how much it says. A tensor is then the teacher's
//! without what goes, or starts anew where that is not the student's shape.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dlopt_checkpoint::Result;
use dlopt_prune::{Coupling, Cut, Group, Importance, Member, importance_named};

use super::{Derivation, depth};
use crate::coupling::coupling;
use crate::description::Description;
use crate::layout::{FlatLayout, FlatTensor, NamedTensor};
use crate::plan::Node;
use crate::weights::Loaded;

/// Where every tensor of a student comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// In the order of the layout.
    pub tensors: Vec<Taken>,
}

/// Where one tensor of a student comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its name in the student.
    pub name: String,
    /// Its shape in the student.
    pub shape: Vec<usize>,
    /// How it started.
    pub origin: Origin,
}

/// How a tensor of a student started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// As the teacher's tensor of this name.
    Whole {
        /// Its name in the teacher; another number where layers of a recurrent stack were dropped before it.
        tensor: String,
    },
    /// As a part of the teacher's tensor of this name.
    Selected {
        /// Its name in the teacher.
        tensor: String,
        /// Its shape in the teacher.
        of: Vec<usize>,
    },
    /// Anew.
    Fresh,
}

impl Taken {
    /// Values of the tensor.
    pub fn values(&self) -> usize {
        self.shape.iter().product()
    }

    /// What stayed of each axis, for people: `16 of 32 x 8 x 3 x 3`.
    pub fn kept(&self) -> String {
        let axis = |(at, kept): (usize, &usize)| match &self.origin {
            Origin::Selected { of, .. } if of[at] != *kept => format!("{kept} of {}", of[at]),
            _ => kept.to_string(),
        };
        self.shape.iter().enumerate().map(axis).collect::<Vec<_>>().join(" x ")
    }
}

impl TakenOver {
    /// What was taken over, in one line.
    pub fn summary(&self) -> String {
        let count = |wanted: fn(&Origin) -> bool| self.tensors.iter().filter(|t| wanted(&t.origin)).count();
        let whole = count(|origin| matches!(origin, Origin::Whole { .. }));
        let selected = count(|origin| matches!(origin, Origin::Selected { .. }));
        let fresh = count(|origin| *origin == Origin::Fresh);
        let values: usize = self.tensors.iter().map(Taken::values).sum();
        let taken: usize = self.tensors.iter().filter(|t| t.origin != Origin::Fresh).map(Taken::values).sum();
        format!(
            "{taken} of {values} values from the teacher: {whole} tensors whole, {selected} in part, {fresh} start anew"
        )
    }
}

impl Derivation {
    /// Takes the teacher's weights over where they fit; the rest of `weights` and `buffers`, which hold fresh values, stays
    /// as it is. `nodes` and `layout` are those of the student that [`Derivation::description`] gives. A student equal to
    /// the teacher gets the teacher's bits.
    ///
    /// # Errors
    /// When a name of the teacher's description is no name.
    ///
    /// # Panics
    /// When `weights` or `buffers` have other lengths than the layout says.
    pub fn take_over(
        &self,
        teacher: &Loaded,
        nodes: &[Node],
        layout: &FlatLayout,
        weights: &mut Vec<f32>,
        buffers: &mut Vec<f32>,
    ) -> Result<TakenOver> {
        let names = self.names(&teacher.config.description, layout)?;
        let stored = Stored::new(teacher);
        let graph = coupling(&teacher.nodes);
        let by = importance_named("l2")?;
        let cut = Cut::new(&graph, choose(&graph, &coupling(nodes), &names, &stored, by));
        let mut taken = TakenOver::default();
        let mut values: HashMap<String, Vec<f32>> =
            layout.to_checkpoint(weights, buffers).into_iter().map(|t| (t.name, t.values)).collect();
        for tensor in layout.tensors() {
            let origin = match names.get(&tensor.name).and_then(|name| stored.get(name)) {
                None => Origin::Fresh,
                Some(source) => {
                    let slices = cut.slices(&source.name, &source.shape);
                    let name = source.name.clone();
                    match slices.shape == tensor.shape {
                        false => Origin::Fresh,
                        true => {
                            values.insert(tensor.name.clone(), slices.of(&source.values));
                            match slices.is_whole() {
                                true => Origin::Whole { tensor: name },
                                false => Origin::Selected { tensor: name, of: slices.from },
                            }
                        }
                    }
                }
            };
            taken.tensors.push(Taken { name: tensor.name.clone(), shape: tensor.shape.clone(), origin });
        }
        (*weights, *buffers) = match nodes == teacher.nodes {
            // The way through a checkpoint adds a recurrent layer's two biases, which turns -0 to 0.
            true => (teacher.params.clone(), teacher.buffers.clone()),
            false => layout.from_checkpoint(|tensor| Ok(values.remove(&tensor.name).unwrap_or_default()))?,
        };
        Ok(taken)
    }

    /// The teacher's name of each tensor of the student.
    ///
    /// # Errors
    /// When a name of the teacher's description is no name.
    pub(crate) fn names(&self, teacher: &Description, layout: &FlatLayout) -> Result<BTreeMap<String, String>> {
        let description = teacher.named()?;
        let levels = self.layers.as_deref().map(|stays| depth::levels(&description.layers, stays)).unwrap_or_default();
        let name = |tensor: &FlatTensor| {
            let own = levels.iter().find_map(|(stack, levels)| {
                let (kind, place) = tensor.name.strip_prefix(stack)?.strip_prefix('.')?.split_once("_l")?;
                let digits = place.find(|c: char| !c.is_ascii_digit()).unwrap_or(place.len());
                let level = levels.get(place[..digits].parse::<usize>().ok()?)?;
                Some(format!("{stack}.{kind}_l{level}{}", &place[digits..]))
            });
            (tensor.name.clone(), own.unwrap_or_else(|| tensor.name.clone()))
        };
        Ok(layout.tensors().iter().map(name).collect())
    }
}

/// The teacher's tensors by name.
struct Stored(HashMap<String, NamedTensor>);

impl Stored {
    fn new(teacher: &Loaded) -> Self {
        let tensors = teacher.layout.to_checkpoint(&teacher.params, &teacher.buffers);
        Self(tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect())
    }

    fn get(&self, name: &str) -> Option<&NamedTensor> {
        self.0.get(name)
    }

    /// A member's tensor.
    fn of(&self, member: &Member) -> Option<(&[usize], &[f32])> {
        let tensor = self.get(&member.tensor)?;
        Some((tensor.shape.as_slice(), tensor.values.as_slice()))
    }
}

/// The channels that stay of each of the teacher's groups: all where the student has no smaller number of them.
fn choose(
    teacher: &Coupling,
    student: &Coupling,
    names: &BTreeMap<String, String>,
    stored: &Stored,
    by: &dyn Importance,
) -> Vec<Vec<usize>> {
    let counts = counts(teacher, student, names);
    let lives: BTreeSet<&str> = names.values().map(String::as_str).collect();
    let own = |(at, group): (usize, &Group)| {
        let all = || (0..group.channels).collect();
        let Some(&count) = counts.get(&at) else { return all() };
        let weighing = |member: &Member| stored.of(member).filter(|_| lives.contains(member.tensor.as_str()));
        // What cannot be cut stays whole, so that what it lies on has another shape than the student's and starts anew.
        group.strongest(&group.importance(by, weighing), count).unwrap_or_else(|_| all())
    };
    teacher.groups.iter().enumerate().map(own).collect()
}

/// How many channels the student has of each of the teacher's groups. Groups of the two are the same where they share an
/// axis of a tensor in the same order.
fn counts(teacher: &Coupling, student: &Coupling, names: &BTreeMap<String, String>) -> BTreeMap<usize, usize> {
    let theirs = axes(teacher);
    let mut counts = BTreeMap::new();
    for ((tensor, axis), own) in axes(student) {
        let Some(name) = names.get(tensor) else { continue };
        let Some(other) = theirs.get(&(name.as_str(), axis)) else { continue };
        let width =
            |coupling: &Coupling, &[group, member]: &[usize; 2]| coupling.groups[group].members[member].per_channel;
        if own.len() == other.len() && own.iter().zip(other).all(|(a, b)| width(student, a) == width(teacher, b)) {
            for ([of_student, _], [of_teacher, _]) in own.iter().zip(other) {
                counts.entry(*of_teacher).or_insert(student.groups[*of_student].channels);
            }
        }
    }
    counts
}

/// The group and the member of each part of an axis, in the order in which they lie on it.
fn axes(coupling: &Coupling) -> BTreeMap<(&str, usize), Vec<[usize; 2]>> {
    let mut all: BTreeMap<(&str, usize), Vec<[usize; 2]>> = BTreeMap::new();
    for (group, own) in coupling.groups.iter().enumerate() {
        for (member, part) in own.members.iter().enumerate() {
            all.entry((&part.tensor, part.axis)).or_default().push([group, member]);
        }
    }
    let first = |&[group, member]: &[usize; 2]| coupling.groups[group].members[member].entries.first().copied();
    all.values_mut().for_each(|parts| parts.sort_by_key(first));
    all
}

#[cfg(test)]
mod tests;
