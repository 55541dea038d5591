//! Tokens to the statements of a function's body.

use super::ast::{Guard, Instruction, Operand, Statement};
use super::lexer::Token;
use super::parser::Parser;
use crate::ptx::PtxError;

/// How deep blocks and vectors may nest.
const DEEPEST: usize = 64;

impl<'a> Parser<'a> {
    /// The statements up to the brace that closes the function.
    pub(super) fn body(&mut self) -> Result<Vec<Statement<'a>>, PtxError> {
        let mut statements = Vec::new();
        let mut depth = 0;
        loop {
            match self.token {
                Token::Punct(b'{') => {
                    self.advance()?;
                    depth += 1;
                    if depth > DEEPEST {
                        return self.fail("blocks that nest less deeply");
                    }
                    statements.push(Statement::Open);
                }
                Token::Punct(b'}') => {
                    self.advance()?;
                    if depth == 0 {
                        return Ok(statements);
                    }
                    depth -= 1;
                    statements.push(Statement::Close);
                }
                Token::Word(".reg" | ".param" | ".local" | ".shared" | ".global" | ".const") => {
                    let variables = self.variables()?;
                    statements.extend(variables.into_iter().map(Statement::Declare));
                }
                Token::Word(".loc") => self.location()?,
                Token::Word(".pragma") => {
                    self.advance()?;
                    self.advance()?;
                    self.expect(b';')?;
                }
                Token::Word(word) if !word.starts_with('.') => {
                    let line = self.line;
                    self.advance()?;
                    let statement = if self.accept(b':')? {
                        self.labelled(word)?
                    } else {
                        self.instruction(line, None, word)?
                    };
                    statements.push(statement);
                }
                Token::Punct(b'@') => {
                    let line = self.line;
                    self.advance()?;
                    let negated = self.accept(b'!')?;
                    let guard = Guard { register: self.name()?, negated };
                    let opcode = self.name()?;
                    statements.push(self.instruction(line, Some(guard), opcode)?);
                }
                _ => return self.fail("a statement, or the function's `}`"),
            }
        }
    }

    /// `.loc file line column`, perhaps with the function it was inlined from.
    fn location(&mut self) -> Result<(), PtxError> {
        let line = self.line;
        while self.line == line && self.token != Token::End {
            self.advance()?;
        }
        Ok(())
    }

    /// What follows `name:`.
    fn labelled(&mut self, name: &'a str) -> Result<Statement<'a>, PtxError> {
        match self.token {
            Token::Word(".branchtargets") => {
                self.advance()?;
                let mut labels = vec![self.name()?];
                while self.accept(b',')? {
                    labels.push(self.name()?);
                }
                self.expect(b';')?;
                Ok(Statement::Targets { name, labels })
            }
            Token::Word(".callprototype") => {
                self.advance()?;
                let sizes = |variables: Vec<super::Variable<'_>>| {
                    variables.iter().map(super::Variable::bytes).collect()
                };
                let results = if self.is(b'(') { sizes(self.params()?) } else { Vec::new() };
                self.name()?;
                let params = if self.is(b'(') { sizes(self.params()?) } else { Vec::new() };
                if self.token == Token::Word(".noreturn") {
                    self.advance()?;
                }
                self.expect(b';')?;
                Ok(Statement::Prototype { name, results, params })
            }
            _ => Ok(Statement::Label(name)),
        }
    }

    fn instruction(
        &mut self,
        line: u32,
        guard: Option<Guard<'a>>,
        opcode: &'a str,
    ) -> Result<Statement<'a>, PtxError> {
        let mut operands = Vec::new();
        if !self.is(b';') {
            operands.push(self.operand(0)?);
            while self.accept(b',')? {
                operands.push(self.operand(0)?);
            }
        }
        self.expect(b';')?;
        Ok(Statement::Instruction(Instruction { line, guard, opcode, operands }))
    }

    fn operand(&mut self, depth: usize) -> Result<Operand<'a>, PtxError> {
        match self.token {
            Token::Word(name) if !name.starts_with('.') => {
                self.advance()?;
                if self.accept(b'|')? {
                    return Ok(Operand::Pair(name, self.name()?));
                }
                let signed = self.is(b'+') || self.is(b'-');
                Ok(Operand::Name { name, offset: if signed { self.signed()? } else { 0 } })
            }
            Token::Single(bits) => {
                self.advance()?;
                Ok(Operand::Single(bits))
            }
            Token::Double(bits) => {
                self.advance()?;
                Ok(Operand::Double(bits))
            }
            Token::Int(_) | Token::Punct(b'-' | b'+') => {
                let negative = self.accept(b'-')?;
                match self.token {
                    Token::Double(bits) if negative => {
                        self.advance()?;
                        Ok(Operand::Double(bits ^ 1 << 63))
                    }
                    _ => {
                        let value = self.signed()?;
                        Ok(Operand::Int(if negative { value.wrapping_neg() } else { value } as u64))
                    }
                }
            }
            Token::Punct(b'!') => {
                self.advance()?;
                Ok(Operand::Not(self.name()?))
            }
            Token::Punct(b'[') => {
                self.advance()?;
                let base = match self.token {
                    Token::Word(_) => Some(self.name()?),
                    _ => None,
                };
                let offset = if self.is(b']') { 0 } else { self.signed()? };
                self.expect(b']')?;
                Ok(Operand::Memory { base, offset })
            }
            Token::Punct(b'{') if depth == 0 => {
                self.advance()?;
                let mut parts = vec![self.operand(depth + 1)?];
                while self.accept(b',')? {
                    parts.push(self.operand(depth + 1)?);
                }
                self.expect(b'}')?;
                Ok(Operand::Vector(parts))
            }
            Token::Punct(b'(') => {
                self.advance()?;
                let mut names = Vec::new();
                while !self.is(b')') {
                    names.push(self.name()?);
                    if !self.accept(b',')? {
                        break;
                    }
                }
                self.expect(b')')?;
                Ok(Operand::List(names))
            }
            _ => self.fail("an operand"),
        }
    }
}
