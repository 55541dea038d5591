//! From what is written to what is executed: names are resolved, types become widths, each
//! instruction becomes one of [`Code`](super::code::Code), or a few.

mod compare;
mod control;
mod function;
mod instruction;
mod memory;
mod operand;
mod scope;

use std::collections::{BTreeMap, HashMap};

use super::PtxError;
use super::code::{CallSite, Function, Inst, Kernel, Program, Signature};
use super::globals::Globals;
use super::row::{Bank, LANES, Row, Slot};
use super::space;
use super::syntax::{self, Init, Machine, Source, Space, Type, Variable};

/// What a name outside functions stands for.
#[derive(Clone, Copy, Debug)]
enum Symbol {
    /// An address in global memory.
    Global(u64),
    /// An offset in shared memory.
    Shared(u32),
    Function(u32),
}

/// The program as far as it is made.
struct Linker<'a> {
    machine: Machine,
    symbols: HashMap<&'a str, Symbol>,
    functions: Vec<Function>,
    code: Vec<Inst>,
    lines: Vec<u32>,
    numbers: HashMap<u64, u32>,
    constants: Vec<Row>,
    calls: Vec<CallSite>,
    tables: Vec<Vec<u32>>,
    lists: Vec<Slot>,
    /// The largest alignment that a local variable of any function wants.
    local_align: u32,
}

/// Makes a program of a module.
pub(super) fn lower(text: &str) -> Result<Program, PtxError> {
    let source = syntax::parse(text)?;
    let mut linker = Linker {
        machine: source.machine,
        symbols: HashMap::new(),
        functions: Vec::new(),
        code: Vec::new(),
        lines: Vec::new(),
        numbers: HashMap::new(),
        constants: Vec::new(),
        calls: Vec::new(),
        tables: Vec::new(),
        lists: Vec::new(),
        local_align: 16,
    };
    linker.declare(&source)?;
    let (globals, shared_bytes) = linker.place(&source)?;
    let mut kernels = BTreeMap::new();
    for function in &source.functions {
        let Some(body) = &function.body else { continue };
        let Some(Symbol::Function(number)) = linker.symbols.get(function.name).copied() else {
            continue;
        };
        if linker.functions[number as usize].defined {
            return Err(duplicate(function.line, function.name));
        }
        linker.functions[number as usize].defined = true;
        function::lower(&mut linker, number, function, body)?;
        if function.kernel {
            let kernel = kernel(&linker.functions[number as usize].signature, number, function);
            kernels.insert(function.name.to_owned(), kernel);
        }
    }
    linker.all_called_are_defined()?;
    // A function's local memory begins where its caller's ends.
    for function in &mut linker.functions {
        function.local_bytes = function.local_bytes.next_multiple_of(linker.local_align);
    }
    Ok(Program {
        code: linker.code,
        lines: linker.lines,
        constants: linker.constants,
        functions: linker.functions,
        calls: linker.calls,
        tables: linker.tables,
        lists: linker.lists,
        kernels,
        globals,
        shared_bytes,
        text: text.to_owned(),
    })
}

fn duplicate(line: u32, name: &str) -> PtxError {
    PtxError::Duplicate { line, name: name.to_owned() }
}

/// Where a launch's arguments go.
fn kernel(signature: &Signature, number: u32, function: &syntax::Function<'_>) -> Kernel {
    let (rows, _) = signature.rows();
    let mut bytes = 0u32;
    let arguments = function.params.iter().zip(rows).map(|(param, row)| {
        let offset = bytes.next_multiple_of(param.align);
        bytes = offset + param.bytes();
        (row, offset, param.bytes())
    });
    let arguments = arguments.collect();
    let (max_threads, extent) = (function.max_threads, function.extent);
    Kernel { function: number, argument_bytes: bytes, arguments, max_threads, extent }
}

/// How many bytes the parameters of a function may take, or those of a kernel, as on a GPU.
fn most_parameter_bytes(machine: Machine, kernel: bool) -> u64 {
    match kernel {
        true if machine.version < 81 => 4352,
        true => 32764,
        false => 32768,
    }
}

fn sizes(variables: &[Variable<'_>], most: u64) -> Result<Vec<u32>, PtxError> {
    let mut bytes = 0u64;
    for variable in variables {
        bytes = bytes.next_multiple_of(variable.align.into()) + u64::from(variable.bytes());
        if bytes > most {
            let (line, what) = (variable.line, "parameters");
            return Err(PtxError::TooLarge { line, what, bytes, most });
        }
    }
    Ok(variables.iter().map(Variable::bytes).collect())
}

impl<'a> Linker<'a> {
    /// Gives every function its number.
    fn declare(&mut self, source: &Source<'a>) -> Result<(), PtxError> {
        for function in &source.functions {
            self.are_parameters(function)?;
            let most = most_parameter_bytes(self.machine, function.kernel);
            let signature = Signature {
                params: sizes(&function.params, most)?,
                results: sizes(&function.results, most)?,
            };
            match self.symbols.get(function.name) {
                Some(&Symbol::Function(known)) => {
                    if self.functions[known as usize].signature != signature {
                        return Err(PtxError::Malformed {
                            line: function.line,
                            instruction: function.name.to_owned(),
                            why: "declared before with other parameters".into(),
                        });
                    }
                    continue;
                }
                Some(_) => return Err(duplicate(function.line, function.name)),
                None => {}
            }
            let number = self.functions.len() as u32;
            self.symbols.insert(function.name, Symbol::Function(number));
            self.functions.push(Function {
                name: function.name.to_owned(),
                start: 0,
                rows: 0,
                local_bytes: 0,
                signature,
                defined: false,
                kernel: function.kernel,
            });
        }
        Ok(())
    }

    /// Fails unless what a function takes and gives lies in parameter memory, and a kernel gives nothing.
    fn are_parameters(&self, function: &syntax::Function<'_>) -> Result<(), PtxError> {
        let mut all = function.params.iter().chain(&function.results);
        let why = match all.find(|variable| variable.space != Space::Param) {
            Some(variable) => format!(" with `{}`, which is no `.param`", variable.name),
            None if function.kernel && !function.results.is_empty() => " with results".into(),
            None => return Ok(()),
        };
        let instruction = function.name.to_owned();
        Err(PtxError::Unsupported { line: function.line, instruction, why })
    }

    /// Gives every variable its place, and its initial value. Bytes of shared memory come out too:
    /// the dynamic part begins where they end.
    fn place(&mut self, source: &Source<'a>) -> Result<(Globals, u32), PtxError> {
        let global: Vec<_> = source.variables.iter().filter(|v| v.space == Space::Global).collect();
        let mut globals = Globals::new(&global)?;
        for (variable, placed) in global.iter().zip(&globals.variables) {
            if self.symbols.insert(variable.name, Symbol::Global(placed.address)).is_some() {
                return Err(duplicate(variable.line, variable.name));
            }
        }
        let mut bytes = 0u64;
        let shared: Vec<_> = source.variables.iter().filter(|v| v.space == Space::Shared).collect();
        for variable in shared.iter().filter(|v| v.count > 0) {
            self.place_shared(variable, &mut bytes)?;
        }
        // Those whose size the launch says all begin at one place, aligned as each of them wants.
        let dynamic = shared.iter().filter(|v| v.count == 0);
        let align = dynamic.map(|v| v.align).max().unwrap_or(1).max(16);
        bytes = bytes.next_multiple_of(align.into());
        for variable in shared.iter().filter(|v| v.count == 0) {
            let mut after = bytes;
            self.place_shared(variable, &mut after)?;
        }
        for (number, variable) in global.iter().enumerate() {
            for (element, init) in variable.init.iter().enumerate() {
                let value = self.initial(variable, init)?;
                globals.initialise(number, element as u32, variable.ty.bytes(), value);
            }
        }
        Ok((globals, bytes as u32))
    }

    fn place_shared(&mut self, variable: &Variable<'a>, bytes: &mut u64) -> Result<(), PtxError> {
        const MOST: u64 = crate::config::MAX_SHARED_BYTES as u64;
        let offset = bytes.next_multiple_of(variable.align.into());
        *bytes = offset + u64::from(variable.bytes());
        if *bytes > MOST {
            let (line, what) = (variable.line, "shared variables");
            return Err(PtxError::TooLarge { line, what, bytes: *bytes, most: MOST });
        }
        match self.symbols.insert(variable.name, Symbol::Shared(offset as u32)) {
            None => Ok(()),
            Some(_) => Err(duplicate(variable.line, variable.name)),
        }
    }

    /// The bits of an initial value.
    fn initial(&self, variable: &Variable<'_>, init: &Init<'_>) -> Result<u64, PtxError> {
        let wrong = |why: &str| PtxError::Malformed {
            line: variable.line,
            instruction: variable.name.to_owned(),
            why: why.to_owned(),
        };
        let (name, offset) = match (*init, variable.ty) {
            (Init::Int(value), ty) if !ty.is_float() => return Ok(value),
            (Init::Single(bits), Type::F32 | Type::B32) => return Ok(bits.into()),
            (Init::Double(bits), Type::F32 | Type::B32) => {
                return Ok((f64::from_bits(bits) as f32).to_bits().into());
            }
            (Init::Double(bits), Type::F64 | Type::B64) => return Ok(bits),
            (Init::Address { name, offset }, ty) if !ty.is_float() => (name, offset),
            _ => return Err(wrong("an initial value of another type")),
        };
        let base = match self.symbols.get(name) {
            Some(&Symbol::Global(address)) => address,
            Some(&Symbol::Function(number)) => space::function_address(number),
            Some(&Symbol::Shared(_)) => return Err(wrong("no initial value is in shared memory")),
            None => {
                return Err(PtxError::Unknown { line: variable.line, name: name.to_owned() });
            }
        };
        Ok(base.wrapping_add_signed(offset))
    }

    /// The row of a number.
    fn number(&mut self, value: u64) -> Slot {
        let next = self.constants.len() as u32;
        let row = *self.numbers.entry(value).or_insert(next);
        if row == next {
            self.constants.push(Row([value; LANES]));
        }
        Slot::new(Bank::Constant, row)
    }

    fn all_called_are_defined(&self) -> Result<(), PtxError> {
        for (inst, &line) in self.code.iter().zip(&self.lines) {
            if let super::code::Code::Call = inst.code {
                let callee = self.calls[inst.imm as usize].callee;
                let function = callee.map(|number| &self.functions[number as usize]);
                if let Some(function) = function.filter(|f| !f.defined) {
                    return Err(PtxError::Unknown { line, name: function.name.clone() });
                }
            }
        }
        Ok(())
    }
}

/// The bits of `value` that a type has.
fn truncated(value: u64, ty: Type) -> u64 {
    value & u64::MAX >> (64 - ty.bits())
}
