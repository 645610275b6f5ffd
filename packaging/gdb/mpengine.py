# SPDX-License-Identifier: MIT
"""Lua stacks of all tasks and coroutines, for gdb: of a process that runs, or of a core.

    gdb -p PID -batch -x mpengine.py -ex mpengine-stacks
    gdb PROGRAM CORE -batch -x mpengine.py -ex mpengine-stacks

No debug information is needed. What belongs to mpengine is found by the table mpe_lua_layout that it
exports (bindings/task/llayout.c). What belongs to Lua is at the same places in all releases that
RELEASES names, on 64-bit machines with the low byte first; of others nothing is read. The process runs
no code meanwhile, and its state may be broken: what cannot be read is said, the rest is printed.
"""
import re
import struct

import gdb

RELEASES = re.compile(rb"Lua (5\.4\.[0-8]|5\.5\.0)\b")
TABLE = struct.Struct("<16s12i")  # struct lmpe_layout

# Places of members of Lua's structs, in bytes.
L_GLOBAL, L_CALL = 24, 32                 # lua_State: l_G, ci
G_LISTS = (112, 128, 176)                 # global_State: allgc, finobj, tobefnz
C_FUNCTION, C_PREVIOUS, C_PC = 0, 16, 32  # CallInfo: func, previous, u.l.savedpc
CLOSURE_OF, FIRST_UPVALUE = 24, 32        # LClosure.p and CClosure.f; CClosure.upvalue
OBJECT = struct.Struct("<QB")             # of all that is collected: next, type
UDATA = struct.Struct("<QBBHIQ")          # Udata: ..., nuvalue, len
UDATA_PLAIN, UDATA_VALUES = 32, 40        # its bytes, without user values; its user values
PROTO = struct.Struct("<16x9i4x8Q")       # Proto, from sizeupvalues to source
STRING = struct.Struct("<QBBBbIQ")        # TString: ..., shrlen, hash, lnglen
STRING_BYTES = 24
VALUE = struct.Struct("<QB7x")            # TValue

STRING_SHORT, USERDATA, THREAD = 0x04, 0x07, 0x08
COLLECTABLE = 0x40
LUA_CLOSURE, C_PLAIN, C_CLOSURE = 0x46, 0x16, 0x66
STATES = ("new", "ready", "running", "waiting", "ended")

MOVE, GETUPVAL, GETTABUP, GETFIELD, SELF = 0, 9, 11, 14, 20
CALL, TAILCALL, FORCALL, CLOSURE = 68, 69, 76, 79
# Instructions that leave the register alone that their first operand names.
SETS_NOTHING = {10, 15, 16, 17, 18, 46, 47, 48, 54, 55, 56, *range(57, 67), 70, 71, 72, 75, 77, 78, 82}
ABSOLUTE = -128  # in the differences of lines: there is none
MOST_FRAMES = 200  # of a stack; of a deeper one the middle is left out


class Unreadable(Exception):
    """Something cannot be read, or is not what it should be."""


# ---- memory ----

def read(address, size):
    try:
        return gdb.selected_inferior().read_memory(address, size).tobytes()
    except (gdb.MemoryError, gdb.error, OverflowError) as error:
        raise Unreadable("no memory at 0x%x" % address) from error


def unpack(layout, address):
    return layout.unpack(read(address, layout.size))


def pointer(address):
    return int.from_bytes(read(address, 8), "little")


def integer(address):
    return int.from_bytes(read(address, 4), "little", signed=True)


def symbol(name):
    """The address of a symbol, which needs no debug information; None: there is none."""
    try:
        return int(gdb.parse_and_eval("(unsigned long)&" + name))
    except gdb.error:
        return None


def text_at(address):
    """The text of a TString; None for none."""
    if not address:
        return None
    _, kind, _, _, short, _, length = unpack(STRING, address)
    start = address + STRING_BYTES
    if kind == STRING_SHORT:
        length = short & 0xff
    elif Lua.long_strings_apart:
        start = pointer(start)
    return read(start, min(length, 4096)).decode("utf-8", "replace")


# ---- Lua ----

class Lua:
    release = None
    long_strings_apart = False

    @classmethod
    def find(cls):
        """Checks which Lua it is."""
        ident = symbol("lua_ident")
        if not ident:
            raise Unreadable("there is no Lua in this program, or it does not say which (lua_ident)")
        text = read(ident, 96)
        known = RELEASES.search(text)
        if not known:
            found = re.search(rb"Lua \d[\d.]*", text)
            raise Unreadable("%s is not one of the releases that this script knows: 5.4.0 to 5.4.8, 5.5.0"
                             % (found.group().decode() if found else "this Lua"))
        cls.release = known.group().decode()
        cls.long_strings_apart = known.group(1).startswith(b"5.5")


class Function:
    """The prototype of a Lua function."""
    cache = {}

    def __init__(self, address):
        (self.upvalue_count, self.constant_count, self.code_count, self.line_count, _, self.local_count,
         self.fixed_count, self.first_line, _, self.constants, code, _, self.upvalues, lines,
         fixed, self.locals, source) = unpack(PROTO, address)
        if not 0 < self.code_count < 1 << 24 or not 0 <= self.line_count <= self.code_count:
            raise Unreadable("no function at 0x%x" % address)
        self.address, self.code_address = address, code
        self.code = struct.unpack("<%dI" % self.code_count, read(code, 4 * self.code_count))
        self.lines = struct.unpack("<%db" % self.line_count, read(lines, self.line_count)) if self.line_count else ()
        self.fixed = read(fixed, 8 * self.fixed_count) if self.fixed_count > 0 else b""
        self.source = self.source_name(text_at(source) or "=?")

    @classmethod
    def at(cls, address):
        if address not in cls.cache:
            cls.cache[address] = cls(address)
        return cls.cache[address]

    @staticmethod
    def source_name(source):
        if source[:1] in "=@":
            return source[1:]
        first = source.split("\n", 1)[0]
        return '[string "%s%s"]' % (first[:40], "..." if first != source or len(first) > 40 else "")

    def line(self, pc):
        """The source line of an instruction; None: the function has no debug information."""
        if not self.lines:
            return None
        at, line = -1, self.first_line
        for fixed_pc, fixed_line in struct.iter_unpack("<ii", self.fixed):
            if fixed_pc > pc:
                break
            at, line = fixed_pc, fixed_line
        for difference in self.lines[at + 1:pc + 1]:
            if difference != ABSOLUTE:
                line += difference
        return line

    def constant(self, index):
        if not 0 <= index < self.constant_count:
            return None
        value, kind = unpack(VALUE, self.constants + VALUE.size * index)
        return text_at(value) if kind & 0x0f == STRING_SHORT else None

    def upvalue(self, index):
        if not 0 <= index < self.upvalue_count:
            return None
        return text_at(pointer(self.upvalues + 16 * index))

    def local(self, register, pc):
        """The name of the variable in a register."""
        for _, (name, start, end) in zip(range(self.local_count),
                                         struct.iter_unpack("<Qii", read(self.locals, 16 * self.local_count))):
            if start > pc:
                break
            if pc < end:
                if register == 0:
                    return text_at(name)
                register -= 1
        return None

    def setter(self, register, pc):
        """The last instruction before pc that set a register: its place, or None."""
        for at in range(pc - 1, -1, -1):
            instruction = self.code[at]
            operation, first = instruction & 0x7f, instruction >> 7 & 0xff
            if operation in (CALL, TAILCALL) and first <= register:
                return None
            if first == register and operation not in SETS_NOTHING:
                return at
        return None

    def called(self, pc):
        """What the call at pc calls, as "kind 'name'", or None."""
        instruction = self.code[pc]
        operation, register = instruction & 0x7f, instruction >> 7 & 0xff
        if operation == FORCALL:
            return "for iterator 'for iterator'"
        if operation not in (CALL, TAILCALL):
            return "metamethod"
        name = self.local(register, pc)
        if name:
            return "local '%s'" % name
        at = self.setter(register, pc)
        if at is None:
            return None
        return self.loaded(at)

    def loaded(self, at):
        instruction = self.code[at]
        operation, second, third = instruction & 0x7f, instruction >> 16 & 0xff, instruction >> 24
        if operation == MOVE:
            kind, name = "local", self.local(second, at)
        elif operation == GETUPVAL:
            kind, name = "upvalue", self.upvalue(second)
        elif operation == GETTABUP:
            kind, name = "global" if self.upvalue(second) == "_ENV" else "field", self.constant(third)
        elif operation == GETFIELD:
            kind, name = "field", self.constant(third)
        elif operation == SELF:
            kind, name = "method", self.constant(third)
        else:
            return None
        return "%s '%s'" % (kind, name) if name else None


class Frame:
    """A call on the stack of a coroutine."""

    def __init__(self, call):
        self.slot = pointer(call + C_FUNCTION)
        value, self.kind = unpack(VALUE, self.slot)
        self.function, self.pc, self.c_function = None, 0, None
        if self.kind == LUA_CLOSURE:
            self.function = Function.at(pointer(value + CLOSURE_OF))
            self.pc = (pointer(call + C_PC) - self.function.code_address) // 4 - 1
            self.pc = min(max(self.pc, 0), self.function.code_count - 1)
        elif self.kind == C_CLOSURE:
            self.c_function = pointer(value + CLOSURE_OF)
        elif self.kind == C_PLAIN:
            self.c_function = value
        self.closure = value

    def threads(self, whole):
        """The coroutines that a C function has among its first values, or all of them."""
        values = []
        if self.kind == C_CLOSURE:
            values.append(self.closure + FIRST_UPVALUE)
        values += [self.slot + VALUE.size * i for i in range(1, 12 if whole else 2)]
        for at in values:
            try:
                value, kind = unpack(VALUE, at)
            except Unreadable:
                break
            if kind == THREAD | COLLECTABLE:
                yield value


def symbol_of(address):
    found = gdb.execute("info symbol 0x%x" % address, to_string=True)
    return re.split(r"[ +]", found, maxsplit=1)[0] if " in section" in found else "0x%x" % address


def frames_of(thread):
    """The calls of a coroutine, from the innermost outwards."""
    call, frames = pointer(thread + L_CALL), []
    while call:
        previous = pointer(call + C_PREVIOUS)
        if not previous:  # the base of the stack, which is no call
            return frames
        frames.append(Frame(call))
        call = previous
        if len(frames) > 250000:
            raise Unreadable("the stack of 0x%x has no end" % thread)
    return frames


def describe(frame, caller):
    if frame.c_function is not None:
        name = caller and caller.function and caller.function.called(caller.pc)
        return "[C]: in %s (%s)" % (name or "function", symbol_of(frame.c_function))
    if not frame.function:
        return "?"
    function, line = frame.function, frame.function.line(frame.pc)
    place = "%s:%s:" % (function.source, "?" if line is None else line)
    if function.first_line == 0:
        return place + " in main chunk"
    name = caller and caller.function and caller.function.called(caller.pc)
    return "%s in %s" % (place, name or "function <%s:%d>" % (function.source, function.first_line))


def show(thread):
    try:
        frames = frames_of(thread)
        for i, frame in enumerate(frames):
            if MOST_FRAMES // 2 <= i < len(frames) - MOST_FRAMES // 2:
                if i == MOST_FRAMES // 2:
                    print("    ... (%d calls)" % (len(frames) - MOST_FRAMES))
                continue
            print("    " + describe(frame, frames[i + 1] if i + 1 < len(frames) else None))
    except Unreadable as error:
        print("    (%s)" % error)


def collected(main):
    """All objects that the collector has: address, type."""
    state = pointer(main + L_GLOBAL)
    for place in G_LISTS:
        at = pointer(state + place)
        while at:
            following, kind = unpack(OBJECT, at)
            yield at, kind
            at = following


# ---- mpengine ----

class Engine:
    """A Lua state that mpengine is loaded in."""

    def __init__(self, state, layout):
        self.state, self.at = state, layout
        self.main = pointer(state + layout["main"])
        if unpack(OBJECT, self.main)[1] != THREAD:
            raise Unreadable("no Lua state at 0x%x" % self.main)

    def field(self, name):
        return pointer(self.state + self.at[name])

    def scan(self):
        """The tasks that have not ended, by their places; and all coroutines."""
        tasks, threads = [], []
        size = self.at["task_size"]
        for at, kind in collected(self.main):
            if kind == THREAD:
                threads.append(at)
            elif kind == USERDATA:
                values, length = unpack(UDATA, at)[3], unpack(UDATA, at)[5]
                task = at + (UDATA_VALUES + VALUE.size * values if values else UDATA_PLAIN)
                if length == size and pointer(task + self.at["task_state_of"]) == self.state:
                    tasks.append(task)
        return tasks, threads

    def number(self, task):
        return integer(task + self.at["task_id"]) & self.at["id_mask"]

    def task_state(self, task):
        number = read(task + self.at["task_progress"], 1)[0]
        return STATES[number] if number < len(STATES) else "state %d" % number

    def show_chain(self, chain, seen):
        """A coroutine and those that it resumed, innermost first."""
        for thread in reversed(chain):
            seen.add(thread)
            show(thread)

    def chain(self, thread, whole=False, others=()):
        chain = [thread]
        while True:
            try:
                frames = frames_of(chain[-1])
            except Unreadable:
                return chain
            inner = [t for t in (frames[0].threads(whole) if frames and frames[0].c_function is not None else ())
                     if t not in chain and t not in others]
            if not inner:
                return chain
            chain.append(inner[0])

    def show(self):
        tasks, threads = self.scan()
        owned = {pointer(t + self.at["task_thread"]): t for t in tasks}
        owned.pop(0, None)
        main_task, current, seen = self.field("main_task"), self.field("current"), set()
        print("task %d, the main one: %s%s" % (self.number(main_task), self.task_state(main_task),
                                              ", current" if current == main_task else ""))
        chain = self.chain(self.main, True, owned)
        driver = self.field("driver")
        if driver and driver not in chain and driver not in owned:
            chain += self.chain(driver, False, owned)
        self.show_chain(chain, seen)
        for thread, task in sorted(owned.items(), key=lambda item: self.number(item[1])):
            print("task %d: %s%s" % (self.number(task), self.task_state(task),
                                     ", current" if current == task else ""))
            self.show_chain(self.chain(thread, False, owned), seen)
        for thread in threads:
            if thread in seen:
                continue
            try:
                idle = not frames_of(thread)
            except Unreadable:
                idle = False
            if not idle:
                print("coroutine 0x%x" % thread)
                show(thread)


FIELDS = ("main", "main_task", "current", "driver", "next", "task_size", "task_state_of", "task_thread",
          "task_id", "task_progress", "id_mask", "version")


def engines():
    table = symbol("mpe_lua_layout")
    if not table:
        raise Unreadable("mpengine is not loaded in this program, or is older than this script")
    magic, *values = unpack(TABLE, table)
    layout = dict(zip(FIELDS, values))
    if magic.rstrip(b"\0") != b"mpengine layout" or layout["version"] != 1:
        raise Unreadable("this script belongs to another version of mpengine than the program")
    state = pointer(symbol("mpe_lua_states"))
    while state:
        yield Engine(state, layout)
        state = pointer(state + layout["next"])


class Stacks(gdb.Command):
    """Lua stacks of all tasks and coroutines of mpengine in this process, the innermost call first."""

    def __init__(self):
        super().__init__("mpengine-stacks", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        Function.cache = {}
        try:
            Lua.find()
            found = list(engines())
            print("process %d, %s, %d Lua state%s with mpengine" % (
                gdb.selected_inferior().pid, Lua.release, len(found), "" if len(found) == 1 else "s"))
            for engine in found:
                engine.show()
        except Unreadable as error:
            raise gdb.GdbError("mpengine-stacks: %s" % error) from error


Stacks()
