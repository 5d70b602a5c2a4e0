//! A checkpoint seen through passes, without writing anything: for diff, statistics and verify.

use crate::buffers::Pool;
use crate::chain::{Cache, Chain, Context, Stage};
use crate::error::{Error, Result};
use crate::header::Header;
use crate::pass::{Pass, Scope};
use crate::tensors::Tensors;

/// What a chain of passes would write, readable at any byte. The passes must decide without looking first.
pub struct View<'a> {
    chain: Chain<'a>,
    pool: Pool,
    cache: Cache,
}

impl<'a> View<'a> {
    /// Plans the passes over a source.
    ///
    /// # Errors
    /// When a pass does not apply, or must look at weights before it can write.
    pub fn new(source: &'a dyn Tensors, passes: &[&'a dyn Pass]) -> Result<Self> {
        let mut chain = Chain { name: "", source, stages: Vec::new() };
        for pass in passes {
            let stage = Stage::new(*pass, chain.header(chain.stages.len()).clone())?;
            if stage.plan.units.iter().any(|u| u.scope != Scope::Block) {
                return Err(Error::input(format!("`{}` must look at the weights first", pass.verb())));
            }
            chain.stages.push(stage);
        }
        Ok(Self { chain, pool: Pool::default(), cache: Cache::default() })
    }
}

impl Tensors for View<'_> {
    fn header(&self) -> &Header {
        self.chain.header(self.chain.stages.len())
    }

    fn read(&self, tensor: usize, offset: u64, into: &mut [u8]) -> Result<()> {
        if let Some(tensor) = self.chain.copied(self.chain.stages.len(), tensor) {
            return self.chain.source.read(tensor, offset, into);
        }
        let context = Context { cache: &self.cache, pool: &self.pool, reports: None };
        let range = offset..offset + into.len() as u64;
        let bytes = self.chain.fetch(context, self.chain.stages.len(), tensor, range)?;
        into.copy_from_slice(&bytes);
        Ok(())
    }
}
