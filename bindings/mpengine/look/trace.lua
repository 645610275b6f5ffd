--- A trace: what the processes of a program note in the rings of a tracer (core.tracer), read until it
--- ends. events.lua makes a file of it.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local answer = require "mpengine.look.answer"
local dump = require "mpengine.look.dump"
local look = require "mpengine.look"
local tasks = require "mpengine.look.tasks"

local trace = {}

local PERIOD <const> = 0.02       -- seconds between two readings of the rings
local NAMES_EVERY <const> = 10    -- readings between two looks at the names of objects
local RECORD <const> = 32         -- bytes
local MOST <const> = 1 << 18      -- records that are kept
local SLOTS <const> = 256

local function read_rings(self)
    for slot = 0, SLOTS - 1 do
        local bytes, lost, cut = self.tracer:read(slot, MOST - self.count)
        self.dropped = self.dropped + lost + cut
        self.cut[slot] = (self.cut[slot] or 0) + cut
        if #bytes > 0 then
            self.count = self.count + #bytes // RECORD
            local list = self.chunks[slot] or {}
            list[#list + 1], self.chunks[slot] = bytes, list
        end
    end
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
    }
end

--- Reads what is new; the names of objects now and then.
function trace.go_on(self)
    if self.program and self.rounds % NAMES_EVERY == 0 then note_names(self) end
    self.rounds = self.rounds + 1
    read_rings(self)
end

--- Reads what is left, and closes the tracer: what events.lua makes a file of.
function trace.finish(self)
    if self.program then note_names(self) end
    read_rings(self)
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
    local deadline = self.from + seconds
    require("mpengine.signal").signal("INT", function() deadline = core.now() end)
    repeat
        trace.go_on(self)
        core.sleep(math.max(0, math.min(PERIOD, deadline - core.now())))
        program:refresh()
    until core.now() >= deadline or #program.processes == 0
    return trace.finish(self)
end

--- Traces a program that has just been started, until it ends.
---@param child mpengine.subprocess.Child
---@param script string
---@param from number when it was started
function trace.whole(child, tracer, script, from)
    local self = trace.new(tracer)
    self.script, self.pid, self.from = script, child.pid, from
    repeat
        self.program = self.program or look.program(child.pid)
        trace.go_on(self)
    until child:wait(PERIOD)
    return trace.finish(self)
end

return trace
