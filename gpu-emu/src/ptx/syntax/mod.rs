//! PTX as it is written: from text to statements, nothing resolved.

mod ast;
mod lexer;
mod parser;
mod statement;

pub(super) use ast::*;
pub(super) use parser::parse;
