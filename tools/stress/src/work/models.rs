//! How large the checkpoints of known models are.
//!
//! Parameters are those that the models' authors publish. A checkpoint of mixed-precision training with Adam holds 14 bytes of each
//! parameter: 2 for the weight in bfloat16, 4 for its master copy, 4 for each of two moments (Rajbhandari et al., "ZeRO",
//! 2020, section 3.1, without the gradients); one of the weights alone holds 2.

use clap::ValueEnum;
use serde::Serialize;

/// Bytes of a parameter in a checkpoint that training goes on from.
const TRAINING: u64 = 14;
/// Bytes of a parameter in a checkpoint of the weights.
const WEIGHTS: u64 = 2;

/// A model by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names are those of the models")]
pub(crate) enum Model {
    Gpt2,
    Gpt2Xl,
    #[value(name = "llama-3.2-1b")]
    Llama32_1b,
    #[value(name = "llama-2-7b")]
    Llama2_7b,
    #[value(name = "llama-3-8b")]
    Llama3_8b,
    #[value(name = "llama-2-13b")]
    Llama2_13b,
    #[value(name = "mixtral-8x7b")]
    Mixtral8x7b,
    #[value(name = "llama-3-70b")]
    Llama3_70b,
}

impl Model {
    const fn parameters(self) -> u64 {
        match self {
            Self::Gpt2 => 124_000_000,
            Self::Gpt2Xl => 1_500_000_000,
            Self::Llama32_1b => 1_230_000_000,
            Self::Llama2_7b => 6_740_000_000,
            Self::Llama3_8b => 8_030_000_000,
            Self::Llama2_13b => 13_000_000_000,
            Self::Mixtral8x7b => 46_700_000_000,
            Self::Llama3_70b => 70_600_000_000,
        }
    }

    /// The bytes of a checkpoint of all ranks together.
    pub(crate) const fn bytes(self, weights_only: bool) -> u64 {
        self.parameters() * if weights_only { WEIGHTS } else { TRAINING }
    }
}
