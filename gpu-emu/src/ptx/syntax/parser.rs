//! Tokens to a module: directives, variables, functions.

use gpu_rt::Dim3;

use super::ast::{Function, Init, Machine, Source, Space, Type, Variable};
use super::lexer::{Lexer, Token};
use crate::ptx::PtxError;

/// The oldest version of PTX, times ten, that has what lanes of a warp do together here.
const OLDEST: u32 = 60;
/// The newest major version of PTX whose syntax is known.
const NEWEST: u32 = 8;
/// The oldest architecture whose threads each have a program counter of their own.
const OLDEST_SM: u32 = 70;
/// The most elements of a variable: no sensible module comes near, and sizes cannot overflow.
const MOST_ELEMENTS: u64 = 1 << 24;
/// The most registers of a family.
const MOST_REGISTERS: u64 = 1 << 16;

/// Parses a module.
pub(in crate::ptx) fn parse(text: &str) -> Result<Source<'_>, PtxError> {
    let mut lexer = Lexer::new(text);
    let (token, line) = lexer.next()?;
    Parser { lexer, token, line }.module()
}

pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token that comes next.
    pub(super) token: Token<'a>,
    /// Its line.
    pub(super) line: u32,
}

impl<'a> Parser<'a> {
    pub(super) fn fail<T>(&self, expected: &str) -> Result<T, PtxError> {
        Err(PtxError::Syntax {
            line: self.line,
            found: self.token.to_string(),
            expected: expected.into(),
        })
    }

    pub(super) fn advance(&mut self) -> Result<Token<'a>, PtxError> {
        let (token, line) = self.lexer.next()?;
        self.line = line;
        Ok(std::mem::replace(&mut self.token, token))
    }

    pub(super) fn is(&self, punct: u8) -> bool {
        self.token == Token::Punct(punct)
    }

    /// Takes a punctuation character if it comes next.
    pub(super) fn accept(&mut self, punct: u8) -> Result<bool, PtxError> {
        let found = self.is(punct);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    pub(super) fn expect(&mut self, punct: u8) -> Result<(), PtxError> {
        if self.accept(punct)? {
            return Ok(());
        }
        self.fail(&format!("`{}`", char::from(punct)))
    }

    pub(super) fn word(&mut self, expected: &str) -> Result<&'a str, PtxError> {
        match self.token {
            Token::Word(word) => {
                self.advance()?;
                Ok(word)
            }
            _ => self.fail(expected),
        }
    }

    /// A name: a word that is no directive.
    pub(super) fn name(&mut self) -> Result<&'a str, PtxError> {
        match self.token {
            Token::Word(word) if !word.starts_with('.') => self.word("a name"),
            _ => self.fail("a name"),
        }
    }

    /// A whole number of at most `most`.
    fn number(&mut self, expected: &str, most: u64) -> Result<u64, PtxError> {
        match self.token {
            Token::Int(value) if value <= most => {
                self.advance()?;
                Ok(value)
            }
            _ => self.fail(&format!("{expected} of at most {most}")),
        }
    }

    /// A number with any number of signs, as it wraps in 64 bits.
    pub(super) fn signed(&mut self) -> Result<i64, PtxError> {
        let mut negative = false;
        while self.is(b'-') || self.is(b'+') {
            negative ^= self.is(b'-');
            self.advance()?;
        }
        let Token::Int(value) = self.token else { return self.fail("a number") };
        self.advance()?;
        Ok(if negative { value.wrapping_neg() } else { value } as i64)
    }

    fn skip_line(&mut self) -> Result<(), PtxError> {
        let line = self.line;
        while self.line == line && self.token != Token::End {
            self.advance()?;
        }
        Ok(())
    }

    fn module(mut self) -> Result<Source<'a>, PtxError> {
        let machine = Machine { version: self.version()?, sm: self.target()? };
        let mut source = Source { machine, ..Source::default() };
        loop {
            let word = match self.token {
                Token::End => return Ok(source),
                Token::Word(word) => word,
                _ => return self.fail("a directive"),
            };
            match word {
                ".address_size" => {
                    self.advance()?;
                    if self.token != Token::Int(64) {
                        return self.fail("64, the only size of addresses");
                    }
                    self.skip_line()?;
                }
                ".file" => self.skip_line()?,
                ".section" => self.section()?,
                _ => self.linked(&mut source)?,
            }
        }
    }

    /// Every module begins with its version.
    fn version(&mut self) -> Result<u32, PtxError> {
        if self.token != Token::Word(".version") {
            return self.fail("`.version`, with which PTX begins");
        }
        self.advance()?;
        let (Token::Double(bits), line) = (self.token, self.line) else {
            return self.fail("a version, like 7.0");
        };
        let version = f64::from_bits(bits);
        let tenths = (version * 10.0).round() as u32;
        if tenths >= (NEWEST + 1) * 10 {
            return Err(PtxError::Newer { line, version: version.to_string() });
        }
        if tenths < OLDEST {
            return self.fail("a version of 6.0 or newer");
        }
        self.advance()?;
        Ok(tenths)
    }

    /// What machine it is for comes next.
    fn target(&mut self) -> Result<u32, PtxError> {
        if self.token != Token::Word(".target") {
            return self.fail("`.target`, which comes after the version");
        }
        self.advance()?;
        let Token::Word(target) = self.token else { return self.fail("a target, like sm_70") };
        // `sm_90a` has what `sm_90` has.
        let number = target.strip_prefix("sm_").map(|sm| sm.trim_end_matches(['a', 'f']));
        match number.and_then(|number| number.parse().ok()) {
            Some(sm) if sm >= OLDEST_SM => {
                self.skip_line()?;
                Ok(sm)
            }
            _ => self.fail("a target of sm_70 or newer"),
        }
    }

    /// Debugging information, which nothing here needs.
    fn section(&mut self) -> Result<(), PtxError> {
        while !self.is(b'{') {
            if self.token == Token::End {
                return self.fail("a section's `{`");
            }
            self.advance()?;
        }
        while !self.is(b'}') {
            if self.token == Token::End {
                return self.fail("a section's `}`");
            }
            self.advance()?;
        }
        self.expect(b'}')
    }

    /// A variable or a function.
    fn linked(&mut self, source: &mut Source<'a>) -> Result<(), PtxError> {
        let mut external = false;
        loop {
            match self.token {
                Token::Word(".extern") => external = true,
                Token::Word(".visible" | ".weak" | ".common") => {}
                Token::Word(".func" | ".entry") => {
                    source.functions.push(self.function()?);
                    return Ok(());
                }
                Token::Word(".global" | ".const" | ".shared") => {
                    let variables = self.variables()?;
                    // Of what the launch says the size of, there is no more than shared memory.
                    let sized =
                        |v: &Variable<'_>| v.count > 0 || external && v.space == Space::Shared;
                    if !variables.iter().all(sized) {
                        return self.fail("variables that have a size");
                    }
                    source.variables.extend(variables);
                    return Ok(());
                }
                _ => return self.fail("a variable or a function"),
            }
            self.advance()?;
        }
    }

    /// `.space .align 4 .b8 name[4], other;`, and families of registers.
    pub(super) fn variables(&mut self) -> Result<Vec<Variable<'a>>, PtxError> {
        let mut variables = Vec::new();
        let first = self.variable()?;
        let (space, ty, align) = (first.space, first.ty, first.align);
        variables.push(first);
        while self.accept(b',')? {
            let declared = (space, ty, align);
            variables.push(self.declarator(declared)?);
        }
        self.expect(b';')?;
        Ok(variables)
    }

    /// One variable, up to whatever separates it from the next.
    pub(super) fn variable(&mut self) -> Result<Variable<'a>, PtxError> {
        let space = match self.token {
            Token::Word(".reg") => Space::Reg,
            Token::Word(".param") => Space::Param,
            Token::Word(".local") => Space::Local,
            Token::Word(".shared") => Space::Shared,
            Token::Word(".global" | ".const") => Space::Global,
            _ => return self.fail("a state space, like `.param`"),
        };
        self.advance()?;
        let (mut align, mut lanes) = (None, 1);
        loop {
            match self.token {
                Token::Word(".align") => {
                    self.advance()?;
                    let value = self.number("an alignment", 4096)?;
                    if !value.is_power_of_two() {
                        return self.fail("an alignment that is a power of two");
                    }
                    align = Some(value as u32);
                }
                // What kernels say of the memory that an argument points to.
                Token::Word(".ptr" | ".global" | ".shared" | ".local" | ".const") => {
                    self.advance()?;
                }
                Token::Word(".v2") => {
                    self.advance()?;
                    lanes = 2;
                }
                Token::Word(".v4") => {
                    self.advance()?;
                    lanes = 4;
                }
                Token::Word(word) => {
                    let ty = word.strip_prefix('.').and_then(Type::named);
                    let Some(ty) = ty.filter(|&ty| ty != Type::Pred || space == Space::Reg) else {
                        return self.fail("a type, like `.b32`");
                    };
                    self.advance()?;
                    // `.param .u64 .ptr .align 8 name` says the rest after the type.
                    while let Token::Word(".ptr" | ".global" | ".shared" | ".align" | ".const") =
                        self.token
                    {
                        if self.advance()? == Token::Word(".align") {
                            self.number("an alignment", 4096)?;
                        }
                    }
                    let align = align.unwrap_or(ty.bytes() * lanes);
                    let mut variable = self.declarator((space, ty, align))?;
                    variable.count *= lanes;
                    return Ok(variable);
                }
                _ => return self.fail("a type, like `.b32`"),
            }
        }
    }

    /// A name with what follows it.
    fn declarator(
        &mut self,
        (space, ty, align): (Space, Type, u32),
    ) -> Result<Variable<'a>, PtxError> {
        let line = self.line;
        let name = self.name()?;
        let mut variable =
            Variable { line, space, name, ty, align, count: 1, family: None, init: Vec::new() };
        if self.accept(b'<')? {
            variable.family = Some(self.number("a number of registers", MOST_REGISTERS)? as u32);
            self.expect(b'>')?;
        }
        while self.accept(b'[')? {
            let most = MOST_ELEMENTS / u64::from(variable.count.max(1));
            let count =
                if self.is(b']') { 0 } else { self.number("a number of elements", most)? as u32 };
            variable.count *= count;
            self.expect(b']')?;
        }
        if space == Space::Global && self.accept(b'=')? {
            self.initial(&mut variable.init, 0)?;
            if variable.init.len() > variable.count as usize {
                return self.fail("no more initial values than elements");
            }
        }
        Ok(variable)
    }

    fn initial(&mut self, values: &mut Vec<Init<'a>>, depth: u32) -> Result<(), PtxError> {
        if self.accept(b'{')? {
            if depth == 4 {
                return self.fail("initial values of at most four dimensions");
            }
            while !self.is(b'}') {
                self.initial(values, depth + 1)?;
                if !self.accept(b',')? {
                    break;
                }
            }
            return self.expect(b'}');
        }
        let negative = self.accept(b'-')?;
        let value = match self.token {
            Token::Single(bits) if !negative => {
                self.advance()?;
                Init::Single(bits)
            }
            Token::Double(bits) => {
                self.advance()?;
                Init::Double(bits ^ u64::from(negative) << 63)
            }
            Token::Word(word) if !negative => {
                self.advance()?;
                let name = if word == "generic" {
                    self.expect(b'(')?;
                    let name = self.name()?;
                    self.expect(b')')?;
                    name
                } else {
                    word
                };
                let signed = self.is(b'+') || self.is(b'-');
                let offset = if signed { self.signed()? } else { 0 };
                Init::Address { name, offset }
            }
            _ => {
                let value = self.signed()?;
                Init::Int(if negative { value.wrapping_neg() } else { value } as u64)
            }
        };
        values.push(value);
        Ok(())
    }

    /// `.func (result) name (params)` with its body, or without.
    fn function(&mut self) -> Result<Function<'a>, PtxError> {
        let kernel = self.advance()? == Token::Word(".entry");
        let results = if self.is(b'(') { self.params()? } else { Vec::new() };
        let line = self.line;
        let name = self.name()?;
        let params = if self.is(b'(') { self.params()? } else { Vec::new() };
        let (mut max_threads, mut extent) = (None, None);
        let body = loop {
            match self.token {
                Token::Punct(b';') => {
                    self.advance()?;
                    break None;
                }
                Token::Punct(b'{') => {
                    self.advance()?;
                    break Some(self.body()?);
                }
                Token::Word(".noreturn") => drop(self.advance()?),
                Token::Word(".maxntid") => {
                    self.advance()?;
                    max_threads = Some(self.extent()?.count() as u32);
                }
                Token::Word(".reqntid") => {
                    self.advance()?;
                    extent = Some(self.extent()?);
                }
                Token::Word(".minnctapersm" | ".maxnctapersm" | ".maxnreg") => {
                    self.advance()?;
                    self.number("a number", u64::from(u32::MAX))?;
                }
                Token::Word(".pragma") => {
                    self.advance()?;
                    self.advance()?;
                    self.expect(b';')?;
                }
                _ => return self.fail("a function's body, or `;`"),
            }
        };
        Ok(Function { line, name, kernel, results, params, max_threads, extent, body })
    }

    /// Up to three extents; the others are one.
    fn extent(&mut self) -> Result<Dim3, PtxError> {
        let mut extents = [1; 3];
        for extent in &mut extents {
            *extent = self.number("an extent", 1024)? as u32;
            if !self.accept(b',')? {
                break;
            }
        }
        let [x, y, z] = extents;
        Ok(Dim3::new(x, y, z))
    }

    pub(super) fn params(&mut self) -> Result<Vec<Variable<'a>>, PtxError> {
        self.expect(b'(')?;
        let mut params = Vec::new();
        while !self.is(b')') {
            params.push(self.variable()?);
            if !self.accept(b',')? {
                break;
            }
        }
        self.expect(b')')?;
        Ok(params)
    }
}
