//! Makes `src/generated` again from `proto/`. Run it after changing the contract.

#[path = "../generate/mod.rs"]
mod generate;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    generate::generate(&generate::generated())
}
