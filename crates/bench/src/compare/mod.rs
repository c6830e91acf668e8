//! `bench compare` (being written).
use crate::error::BenchError;
/// The arguments of `bench compare`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CompareArgs {}
pub(crate) fn run(_args: &CompareArgs) -> Result<(), BenchError> {
    Ok(())
}
