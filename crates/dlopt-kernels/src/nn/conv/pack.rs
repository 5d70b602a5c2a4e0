//! Weights laid out for the kernels: panels of [`PANEL`] output channels, one after the other.
//!
//! A panel holds `[depth][PANEL]`, so a kernel streams through it; missing channels are zero. The layout is the same for
//! every instruction set.

use crate::nn::Team;

/// Channels of a panel: a register of AVX-512, two of AVX2.
pub(crate) const PANEL: usize = 16;

/// Less than this many values are not worth waking a team.
const WORTH_A_TEAM: usize = 32 << 10;

/// `[depth, channels]`, rows `stride` apart, to panels.
pub(crate) fn pack_rows(
    team: &Team,
    weight: &[f32],
    rows: &(impl Fn(usize) -> usize + Sync),
    depth: usize,
    channels: usize,
    packed: &mut [f32],
) {
    each_panel(team, packed, depth, |panel, values| {
        let first = panel * PANEL;
        let count = PANEL.min(channels - first);
        for (k, lanes) in values.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            let at = rows(k) + first;
            lanes[..count].copy_from_slice(&weight[at..at + count]);
            lanes[count..].fill(0.0);
        }
    });
}

/// The transpose of `[channels, depth]` to panels: value `[k, channel]` lies at `place(k, channel)`.
pub(crate) fn pack_columns(
    team: &Team,
    weight: &[f32],
    place: &(impl Fn(usize, usize) -> usize + Sync),
    depth: usize,
    run: usize,
    channels: usize,
    packed: &mut [f32],
) {
    each_panel(team, packed, depth, |panel, values| {
        let first = panel * PANEL;
        let count = PANEL.min(channels - first);
        // Within a run the values of a channel are contiguous in the weight.
        for (index, lines) in values.chunks_mut(run * PANEL).enumerate() {
            let lines = lines.as_chunks_mut::<PANEL>().0;
            for channel in 0..count {
                let at = place(index * run, first + channel);
                for (lanes, value) in lines.iter_mut().zip(&weight[at..]) {
                    lanes[channel] = *value;
                }
            }
            for lanes in lines {
                lanes[count..].fill(0.0);
            }
        }
    });
}

fn each_panel(team: &Team, packed: &mut [f32], depth: usize, pack: impl Fn(usize, &mut [f32]) + Sync) {
    if packed.len() < WORTH_A_TEAM {
        packed.chunks_mut(depth * PANEL).enumerate().for_each(|(panel, values)| pack(panel, values));
    } else {
        team.chunks(packed, depth * PANEL, pack);
    }
}

/// Values of `[depth, channels]` in panels.
pub(crate) fn packed_len(depth: usize, channels: usize) -> usize {
    depth * channels.next_multiple_of(PANEL)
}
