//! What this server had changed in a formation that gave way, brought into the one that it entered.
//!
//! Always true: it goes in pieces, each well below the largest change, the last one marked as the last. It may be brought
//! again as a whole: what is there already stays as it is.

use crate::node::Node;
use crate::submit::SubmitError;
use model::{Command, Diverged, Divergence, FormationId};

/// The most bytes of records in one change, but for a record that is larger alone.
const BATCH: usize = 256 * 1024;

/// Has the formation `within` keep what diverged; none but that one, so that no piece of it goes astray.
///
/// # Errors
/// What the directory refuses (a full table, say), or that no primary is there; what was kept until then stays kept.
pub(crate) async fn upload(
    node: &Node,
    within: FormationId,
    divergence: Divergence,
    records: Vec<Diverged>,
) -> Result<(), SubmitError> {
    let mut batches = batches(records, |record| wire::frame::encode(record).len());
    let last = batches.pop().unwrap_or_default();
    for (records, last) in batches
        .into_iter()
        .map(|batch| (batch, false))
        .chain([(last, true)])
    {
        let command = Command::KeepDivergence {
            within,
            divergence: Box::new(divergence.clone()),
            records,
            last,
        };
        node.submit(None, node.author(), command).await?;
    }
    Ok(())
}

/// The records in order, in pieces of [`BATCH`] bytes and [`Command::DIVERGED_LIMIT`] records at most.
fn batches<T>(records: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    let mut filled = 0;
    for record in records {
        let more = size(&record);
        match batches.last_mut() {
            Some(batch) if filled + more <= BATCH && batch.len() < Command::DIVERGED_LIMIT => {
                batch.push(record);
                filled += more;
            }
            _ => {
                batches.push(vec![record]);
                filled = more;
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_small_and_in_order() {
        assert_eq!(batches(Vec::<usize>::new(), |size| *size).len(), 0);
        let sizes = vec![BATCH, 1, BATCH - 1, 1, 3 * BATCH, 2, 2];
        let pieces = batches(sizes.clone(), |size| *size);
        let lengths: Vec<usize> = pieces.iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 2, 1, 1, 2]);
        assert_eq!(pieces.concat(), sizes);
        let small = batches(vec![1; Command::DIVERGED_LIMIT + 1], |size| *size);
        assert_eq!(small.len(), 2);
    }
}
