//! The interpreter's loop: lanes that run together, instruction by instruction.

use gpu_rt::host::wall_clock;

use super::select::PATIENCE;
use super::warp::{Cpu, Failure, Group, NOWHERE, Warp, failure};
use crate::error::Fault;
use crate::ptx::code::{Code, Counter, Inst, Order, Space};
use crate::ptx::fault::{At, PtxFault};
use crate::ptx::row::{Slot, bits};
use crate::ptx::space::{Window, function_at, window};

/// The row of a frame that says where to return to.
const RETURN: Slot = Slot::NONE;

/// Why a warp stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its slice is over.
    Slice,
    /// No lane can go on by itself.
    Blocked,
    /// A barrier has all that it waits for.
    Opened(u8),
    /// Lanes have exited.
    Exited,
}

/// How many instructions a group may run.
struct Fuel {
    left: u32,
    start: u32,
    /// Whether others of the warp could run too.
    contended: bool,
}

impl Fuel {
    fn new(left: u32) -> Self {
        Fuel { left, start: left, contended: false }
    }

    /// From now on others could run too: it gets no more than a turn.
    fn contend(&mut self) {
        if !self.contended {
            self.contended = true;
            let cut = self.left.saturating_sub(PATIENCE);
            self.left -= cut;
            self.start -= cut;
        }
    }

    /// What may have been a poll is dear where others could run.
    #[inline(always)]
    fn poll(&mut self) {
        if self.contended {
            self.left = self.left.saturating_sub(POLL);
        }
    }

    fn used(&self) -> u32 {
        self.start - self.left
    }
}

/// What instructions that shared words count for beside themselves, where others could run: they may
/// be polls.
const POLL: u32 = 32;

impl Warp {
    /// Runs for about `slice` instructions.
    pub(super) fn run(&mut self, cpu: &mut Cpu<'_>, slice: u32) -> Result<Stop, Failure> {
        let mut left = slice;
        loop {
            let ready = self.ready();
            if ready == 0 {
                return Ok(Stop::Blocked);
            }
            if left == 0 {
                return Ok(Stop::Slice);
            }
            let group = self.select(ready);
            let mut fuel = Fuel::new(left);
            if group.contended {
                fuel.contend();
            }
            let stopped = match cpu.profile {
                None => self.run_group::<false>(cpu, group, &mut fuel)?,
                Some(_) => self.run_group::<true>(cpu, group, &mut fuel)?,
            };
            left -= fuel.used();
            // Who has used up its turn while others were ready gives way; after another's turn, the
            // foremost goes on.
            self.rotated = fuel.contended && fuel.left == 0 && !self.rotated;
            if let Some(stop) = stopped {
                return Ok(stop);
            }
        }
    }

    /// Where the lanes stand, for when they stop running.
    #[inline]
    fn park(&mut self, mask: u32, pc: u32) {
        for lane in bits(mask) {
            self.pc[lane] = pc;
        }
    }

    /// Runs a group until it parts, joins others, or has to stop.
    fn run_group<const PROFILE: bool>(
        &mut self,
        cpu: &mut Cpu<'_>,
        group: Group,
        fuel: &mut Fuel,
    ) -> Result<Option<Stop>, Failure> {
        let program = cpu.program;
        let Group { mut mask, mut pc, mut base, mut stop, .. } = group;
        let mut lanes = self.lanes(program, base, mask);
        let mut threads = u64::from(mask.count_ones());
        loop {
            if pc >= stop || fuel.left == 0 {
                self.park(mask, pc);
                return Ok(None);
            }
            fuel.left -= 1;
            let inst = &program.code[pc as usize];
            cpu.counts.warp_instructions += u64::from(inst.weight);
            cpu.counts.thread_instructions += u64::from(inst.weight) * threads;
            if PROFILE && let Some(profile) = &mut cpu.profile {
                profile.add(pc, u64::from(inst.weight) * threads);
            }
            let next = match inst.code {
                Code::Map(map) => {
                    map(&lanes, inst);
                    pc += 1;
                    continue;
                }
                Code::Load(access) => {
                    self.load(cpu, &lanes, inst, access, pc)?;
                    if access.order != Order::Weak {
                        fuel.poll();
                    }
                    pc += 1;
                    continue;
                }
                Code::Store(access) => {
                    self.store(cpu, &lanes, inst, access, pc)?;
                    pc += 1;
                    continue;
                }
                Code::Branch => {
                    pc = inst.target();
                    continue;
                }
                Code::BranchIf { when } | Code::Unless { when } => {
                    let holds = lanes.test(inst.a);
                    let mut taken = if when { holds } else { mask & !holds };
                    if matches!(inst.code, Code::Unless { .. }) {
                        taken = mask & !taken;
                    }
                    if taken == mask {
                        pc = inst.target();
                        continue;
                    }
                    if taken == 0 {
                        pc += 1;
                        continue;
                    }
                    // The lower address first; those at the other wait to be joined there.
                    cpu.counts.divergences += 1;
                    let (jump, fall) = (inst.target(), pc + 1);
                    let (now, at, later, there) = if jump < fall {
                        (taken, jump, mask & !taken, fall)
                    } else {
                        (mask & !taken, fall, taken, jump)
                    };
                    self.park(later, there);
                    (mask, pc) = (now, at);
                    threads = u64::from(mask.count_ones());
                    lanes.mask = mask;
                    fuel.contend();
                    if !self.rotated {
                        stop = stop.min(there);
                    }
                    continue;
                }
                Code::BranchUniform { when } => {
                    let holds = lanes.test(inst.a);
                    let taken = if when { holds } else { mask & !holds };
                    self.stay_together(cpu, mask, taken, pc)?;
                    pc = if taken == mask { inst.target() } else { pc + 1 };
                    continue;
                }
                Code::Atomic(atomic) => {
                    self.atomic(cpu, &lanes, inst, atomic, pc)?;
                    fuel.poll();
                    pc += 1;
                    continue;
                }
                Code::Fence => {
                    // SeqCst: as strong as any fence in PTX. Pairs with the fences and the ordered
                    // accesses of other threads, and of the daemon.
                    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
                    pc += 1;
                    continue;
                }
                Code::LocalAddress => {
                    for lane in bits(mask) {
                        let at = u64::from(self.local_base[lane]).wrapping_add_signed(inst.imm);
                        lanes.set(inst.d, lane, at);
                    }
                    pc += 1;
                    continue;
                }
                Code::ActiveMask => {
                    bits(mask).for_each(|lane| lanes.set(inst.d, lane, mask.into()));
                    pc += 1;
                    continue;
                }
                Code::Read(counter) => {
                    let value = match counter {
                        Counter::Clock { shift, bits } => {
                            part(cpu.counts.warp_instructions, shift, bits)
                        }
                        Counter::Nanoseconds { shift, bits } => part(wall_clock(), shift, bits),
                    };
                    bits(mask).for_each(|lane| lanes.set(inst.d, lane, value));
                    pc += 1;
                    continue;
                }
                Code::IsSpace(space) => {
                    for lane in bits(mask) {
                        let is = matches!(
                            (window(lanes.get(inst.a, lane)), space),
                            (Window::Global, Space::Global)
                                | (Window::Shared(_), Space::Shared)
                                | (Window::Local(..), Space::Local)
                        );
                        lanes.set(inst.d, lane, is.into());
                    }
                    pc += 1;
                    continue;
                }
                Code::Call | Code::CallIndirect { .. } => {
                    let leader = mask.trailing_zeros() as usize;
                    let callee = self.callee(cpu, inst, lanes.get(inst.a, leader), pc, leader)?;
                    // Lanes that call something else do so after these.
                    let indirect = matches!(inst.code, Code::CallIndirect { .. });
                    let target = lanes.get(inst.a, leader);
                    let apart = bits(mask).filter(|&l| indirect && lanes.get(inst.a, l) != target);
                    let apart = apart.fold(0, |apart, lane| apart | 1 << lane);
                    if let Code::CallIndirect { uniform: true } = inst.code {
                        self.stay_together(cpu, mask, apart, pc)?;
                    }
                    self.park(apart, pc);
                    mask &= !apart;
                    if apart != 0 {
                        fuel.contend();
                    }
                    base = self.enter(cpu, inst, callee, mask, base, pc)?;
                    Some(program.functions[callee as usize].start)
                }
                Code::Return => {
                    let leader = mask.trailing_zeros() as usize;
                    let back = lanes.get(RETURN, leader);
                    if back as u32 == NOWHERE {
                        return self.exit(cpu, mask, pc).map(Some);
                    }
                    let apart = bits(mask).filter(|&lane| lanes.get(RETURN, lane) != back);
                    let apart = apart.fold(0, |apart, lane| apart | 1 << lane);
                    self.park(apart, pc);
                    mask &= !apart;
                    if apart != 0 {
                        fuel.contend();
                    }
                    base = self.leave(cpu, back as u32, mask, base);
                    Some(back as u32)
                }
                Code::BranchIndexed { uniform } => {
                    self.park(mask, pc);
                    self.indexed(cpu, inst, mask, base, pc)?;
                    if uniform {
                        let first = self.pc[mask.trailing_zeros() as usize];
                        let apart = bits(mask).filter(|&lane| self.pc[lane] != first);
                        let apart = apart.fold(0, |apart, lane| apart | 1 << lane);
                        self.stay_together(cpu, mask, apart, pc)?;
                    }
                    None
                }
                Code::Exit => return self.exit(cpu, mask, pc).map(Some),
                Code::Trap => {
                    let lane = self.id(cpu, mask.trailing_zeros() as usize);
                    return Err(failure(PtxFault::Trap { lane, at: At::new(program, pc) }));
                }
                Code::Sleep => {
                    self.park(mask, pc + 1);
                    let now = wall_clock();
                    for lane in bits(mask) {
                        // At most a millisecond, as on a GPU.
                        let nap = lanes.get(inst.a, lane).min(1_000_000);
                        self.wake[lane] = now + nap;
                    }
                    cpu.counts.naps += threads;
                    self.asleep |= mask;
                    return Ok(None);
                }
                Code::Barrier(barrier) => {
                    self.park(mask, pc);
                    return self.come(cpu, inst, barrier, mask, base, pc);
                }
                Code::Meet(_) => {
                    self.park(mask, pc);
                    let met = self.meet(cpu, mask, pc)?;
                    // Whoever stood together still does.
                    if met == mask { Some(pc + 1) } else { None }
                }
            };
            // Another frame, or no longer the same lanes.
            let Some(next) = next else { return Ok(None) };
            pc = next;
            if fuel.contended {
                self.park(mask, pc);
                return Ok(None);
            }
            stop = u32::MAX;
            threads = u64::from(mask.count_ones());
            lanes = self.lanes(program, base, mask);
        }
    }

    /// Fails if some lanes of a group go one way, and the others another.
    fn stay_together(&self, cpu: &Cpu<'_>, mask: u32, some: u32, pc: u32) -> Result<(), Failure> {
        let others = mask & !some;
        if some == 0 || others == 0 {
            return Ok(());
        }
        let id = |lanes: u32| self.id(cpu, lanes.trailing_zeros() as usize);
        let (lane, other) = (id(others), id(some));
        Err(failure(PtxFault::Parted { lane, other, at: Box::new(At::new(cpu.program, pc)) }))
    }

    /// The function that a call goes to.
    fn callee(
        &self,
        cpu: &Cpu<'_>,
        inst: &Inst,
        address: u64,
        pc: u32,
        leader: usize,
    ) -> Result<u32, Failure> {
        let site = &cpu.program.calls[inst.imm as usize];
        if let Some(callee) = site.callee {
            return Ok(callee);
        }
        let functions = &cpu.program.functions;
        let found = function_at(address).filter(|&number| {
            functions
                .get(number as usize)
                .is_some_and(|f| f.defined && !f.kernel && f.signature == site.signature)
        });
        found.ok_or_else(|| {
            let (lane, at) = (self.id(cpu, leader), At::new(cpu.program, pc));
            failure(PtxFault::Call { lane, address, at })
        })
    }

    /// Makes a frame for a function and passes the arguments; where the frame begins.
    fn enter(
        &mut self,
        cpu: &Cpu<'_>,
        inst: &Inst,
        callee: u32,
        mask: u32,
        base: u32,
        pc: u32,
    ) -> Result<u32, Failure> {
        let program = cpu.program;
        let site = &program.calls[inst.imm as usize];
        let (caller, callee) =
            (&program.functions[site.caller as usize], &program.functions[callee as usize]);
        let frame = base + caller.rows;
        let leader = mask.trailing_zeros() as usize;
        // Lanes may have come to one frame by ways that take as many rows, but not as much memory.
        let highest = bits(mask).map(|lane| self.local_base[lane]).max().unwrap_or(0);
        let local = u64::from(highest) + u64::from(caller.local_bytes);
        let fits = self.local.reserve(local + u64::from(callee.local_bytes));
        if !fits || !self.reserve(frame, callee.rows) {
            let (lane, stack_size) = (self.id(cpu, leader), self.local.most());
            return Err(Box::new(Fault::StackOverflow { lane, stack_size }));
        }
        for &(here, there) in &site.arguments {
            self.copy_row(base + here, frame + there, mask);
        }
        for lane in bits(mask) {
            self.row(frame).0[lane] = u64::from(pc) + 1;
            self.base[lane] = frame;
            self.local_base[lane] += caller.local_bytes;
        }
        Ok(frame)
    }

    /// Takes the results of a function and leaves its frame; where the caller's begins.
    fn leave(&mut self, cpu: &Cpu<'_>, back: u32, mask: u32, frame: u32) -> u32 {
        let program = cpu.program;
        // The instruction before the one that is returned to made the call.
        let site = &program.calls[program.code[back as usize - 1].imm as usize];
        let caller = &program.functions[site.caller as usize];
        let base = frame - caller.rows;
        for &(there, here) in &site.results {
            self.copy_row(frame + there, base + here, mask);
        }
        for lane in bits(mask) {
            self.base[lane] = base;
            self.local_base[lane] -= caller.local_bytes;
        }
        base
    }

    fn indexed(
        &mut self,
        cpu: &mut Cpu<'_>,
        inst: &Inst,
        mask: u32,
        base: u32,
        pc: u32,
    ) -> Result<(), Failure> {
        let table = &cpu.program.tables[inst.imm as usize];
        let lanes = self.lanes(cpu.program, base, mask);
        for lane in bits(mask) {
            let index = lanes.get(inst.a, lane);
            match usize::try_from(index).ok().and_then(|index| table.get(index)) {
                Some(&target) => self.pc[lane] = target,
                None => {
                    let (lane, at) = (self.id(cpu, lane), At::new(cpu.program, pc));
                    let fault = PtxFault::Branch { lane, index, count: table.len(), at };
                    return Err(failure(fault));
                }
            }
        }
        Ok(())
    }

    fn exit(&mut self, cpu: &mut Cpu<'_>, mask: u32, pc: u32) -> Result<Stop, Failure> {
        self.park(mask, pc);
        self.live &= !mask;
        cpu.barriers.leave(mask.count_ones(), self.live == 0);
        self.nobody_waits_for_gone(cpu, mask)?;
        Ok(self.arrive(cpu)?.unwrap_or(Stop::Exited))
    }
}

/// Some bits of a counter.
fn part(value: u64, shift: u8, bits: u8) -> u64 {
    value >> shift & u64::MAX >> (64 - bits)
}
