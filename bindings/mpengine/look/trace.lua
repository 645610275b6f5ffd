--- A trace: what the processes of a program note in the rings of a tracer (core.tracer), read until it
--- ends. events.lua makes a file of it.
---
--- A process that notes more than RATE events a second would be slower by more than a few percent. Then tracing pauses,
--- for all processes at once, until the average is RATE again: in between all is there that they did. A pause is
--- longer where the events that are kept would not last until the end, and goes on to the end when there are no more.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local answer = require "mpengine.look.answer"
local dump = require "mpengine.look.dump"
local look = require "mpengine.look"
local tasks = require "mpengine.look.tasks"

local trace = {}

local PERIOD <const> = 0.02       -- seconds between two readings of the rings, at most
local SHORTEST <const> = 0.001
local RATE <const> = 600000       -- events a second of one process: an event costs it 35 ns
local BURST <const> = 65536       -- more of them, when it has noted few before
local AGAIN <const> = 16384       -- as many may be noted when a pause ends, which is after some seconds at the latest
local NAMES_EVERY <const> = 10    -- readings between two looks at the names of objects
local RECORD <const> = 32         -- bytes
local MOST <const> = 1 << 18      -- records that are kept
local SLOTS <const> = 256
local PAUSED <const> = 27         -- MPE_TRACE_PAUSED

--- How many events that process has noted which has noted most.
local function read_rings(self)
    local most, all = 0, 0
    for slot = 0, SLOTS - 1 do
        local bytes, lost, cut = self.tracer:read(slot, MOST - self.count)
        local count = #bytes // RECORD
        most, all = math.max(most, count + lost + cut), all + count + lost + cut
        self.dropped = self.dropped + lost + cut
        self.cut[slot] = (self.cut[slot] or 0) + cut
        if count > 0 then
            self.count = self.count + count
            local list = self.chunks[slot] or {}
            list[#list + 1], self.chunks[slot] = bytes, list
        end
    end
    if most > 0 then self.share = most / all end
    return most
end

local function note_names(self)
    for _, object in ipairs(self.program.view:objects(true)) do
        local place = object.name and "" or object.place and (" (%s)"):format(object.place) or ""
        object.name = object.name and core.escaped(object.name)
        self.objects[object.handle] = dump.title(object) .. place
        for _, part in ipairs { object.queue or object.other_queue, object.other_queue } do
            self.parts[part] = object.handle
        end
    end
end

--- The tasks that are there when a trace begins: their names, and what they wait for.
local function ask_for_tasks(self)
    local processes = self.program.processes
    local from = core.now()
    local answers = self.program:ask "dump"
    for _, process in ipairs(processes) do
        local found, list = answers[process.slot], tasks.new()
        local pieces = found and found.bytes and answer.pieces_of(found.bytes) or {}
        for i = 2, #pieces do list:add(pieces[i]) end
        self.tasks[process.pid] = { list = list, at = from }
    end
end

--- Begins to collect; a program that is not found yet is given later, as its field.
function trace.new(tracer, program)
    return {
        program = program, tracer = tracer, chunks = {}, cut = {}, objects = {}, parts = {}, names = {}, tasks = {},
        dropped = 0, count = 0, from = core.now(), began = {}, rounds = 0, clock = { tracer:clock() },
        credit = BURST, looked_at = core.now(), wait = SHORTEST, paused = 0, share = 1,
    }
end

--- Reads what is new; the names of objects now and then.
function trace.go_on(self)
    if self.program and self.rounds % NAMES_EVERY == 0 then note_names(self) end
    self.rounds = self.rounds + 1
    return read_rings(self)
end

local function pause(self)
    self.tracer:pause(true)
    self.pause = { self.tracer:clock() }
end

--- The pause is over, or the trace: what was noted goes on behind a record of it.
local function note_pause(self)
    self.credit = self.credit - read_rings(self)
    local from, to = self.pause, { self.tracer:clock() }
    local record = ("<i8i8i8I4I4"):pack(from[1], to[1], 0, 0, PAUSED)
    for _, list in pairs(self.chunks) do list[#list + 1] = record end
    self.paused = self.paused + (to[2] - from[2]) / 1e9
    self.pause = nil
end

--- How many events a second a pause makes room for.
local function pace(self, now)
    if not self.till then return RATE end
    local kept = (MOST - self.count) * self.share / math.max(PERIOD, self.till - now)
    return math.max(AGAIN, math.min(RATE, kept))
end

--- Reads what is new, and begins or ends a pause.
---@return number seconds until it is to be called again
function trace.step(self)
    local now = core.now()
    local passed = now - self.looked_at
    self.looked_at = now
    self.credit = math.min(BURST, self.credit + passed * (self.pause and pace(self, now) or RATE))
    if self.pause then
        if self.count >= MOST or self.credit < AGAIN then return PERIOD end
        note_pause(self)
        self.tracer:pause(false)
        return self.wait
    end
    local noted = trace.go_on(self)
    self.credit = self.credit - noted
    if self.credit < 0 or self.count >= MOST then pause(self) end
    local rest = math.max(AGAIN, self.credit) * passed / math.max(1, noted) -- the time in which it is used up
    self.wait = math.max(SHORTEST, math.min(PERIOD, 2 * self.wait, rest))
    return self.wait
end

--- Reads what is left, and closes the tracer: what events.lua makes a file of.
function trace.finish(self)
    if self.program then note_names(self) end
    if self.pause then note_pause(self) else read_rings(self) end
    self.to = core.now()
    self.clock[3], self.clock[4] = self.tracer:clock()
    self.tracer:close()
    return self
end

--- Traces a program for so long, or until it ends, or Ctrl-C.
---@param program mpengine.look.Program
---@param seconds number
---@return table? found
---@return string? message
function trace.of(program, tracer, seconds)
    local self = trace.new(tracer, program)
    local ok, by = tracer:start(program.view)
    if not ok and by == "gone" then return nil, ("the program with pid %d has ended"):format(program.pid) end
    if not ok then return nil, ("the program with pid %d is being traced by process %d"):format(program.pid, by) end
    self.script, self.pid = program.script, program.pid
    for _, process in ipairs(program.processes) do
        self.began[process.pid], self.names[process.pid] = process, process.name
    end
    core.spawn(ask_for_tasks, self)
    self.till = self.from + seconds
    require("mpengine.signal").signal("INT", function() self.till = core.now() end)
    repeat
        core.sleep(math.max(0, math.min(trace.step(self), self.till - core.now())))
        program:refresh()
    until core.now() >= self.till or #program.processes == 0
    return trace.finish(self)
end

--- The program, once it is there and has the tracer.
local function found(self, pid)
    local program = look.program(pid)
    return program and self.tracer:start(program.view) and program or nil
end

--- Traces a program that has just been started, until it ends.
---@param child mpengine.subprocess.Child
---@param script string
---@param from number when it was started
function trace.whole(child, tracer, script, from)
    local self = trace.new(tracer)
    self.script, self.pid, self.from = script, child.pid, from
    repeat
        self.program = self.program or found(self, child.pid)
    until child:wait(trace.step(self))
    return trace.finish(self)
end

return trace
