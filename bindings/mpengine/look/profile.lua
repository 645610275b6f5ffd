--- A profile: each process is asked again and again what it does at this moment, and the answers
--- are counted by stack. A process has one question at a time: while it runs C code, and so cannot
--- answer, no signal disturbs it, and the time that passes counts for where it was called.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local answer = require "mpengine.look.answer"
local proc = require "mpengine.look.proc"

local profile = {}

local PERIOD <const> = 0.01    -- seconds between two samples of a process
local NEWS <const> = 0.05      -- between two looks for processes that have started
local AGAIN <const> = 0.3      -- after which a question is asked once more: signals may hide each other

--- The text of a frame: ";" separates frames, and a newline stacks.
local function frame_of(text) return (core.escaped(text):gsub(";", ":")) end

--- The lines of a source, as the process finds it; none when it cannot be read.
local function lines_of(self, process, path)
    local lines = self.sources[path]
    if lines then return lines end
    lines = {}
    local name = path:sub(1, 1) == "/" and path or ("/proc/%d/cwd/%s"):format(process.pid, path)
    local file = io.open(name, "rb")
    -- A script may come from a pipe, a terminal or a device, which are this process's own here.
    if file and (file:seek "end" or 0) > 0 then
        file:seek "set"
        for line in file:lines "L" do lines[#lines + 1] = line end
    end
    if file then file:close() end
    self.sources[path] = lines
    return lines
end

--- A function that was sent has no name where it runs: then its definition tells it.
local function named(self, process, text)
    local path, line = text:match("^function %((.+):(%d+)%)$")
    if not path then return text end
    local source = lines_of(self, process, path)[tonumber(line)] or ""
    local name = source:match("function%s+([%a_][%w_.:]*)%s*%(") or source:match("([%a_][%w_.]*)%s*=%s*function%s*%(")
    return name and ("%s (%s:%s)"):format(name, path, line) or text
end

local function add(self, process, frames, count)
    local list = { frame_of(("%s (pid %d)"):format(process.name, process.pid)) }
    for _, frame in ipairs(frames) do list[#list + 1] = frame end
    local stack = table.concat(list, ";")
    self.counts[stack] = (self.counts[stack] or 0) + count
    self.samples = self.samples + count
end

--- Counts an answer for the periods that have passed since the one before.
local function count(self, process, found, periods)
    local frames = { frame_of(found.task) }
    for i = #found.stack, 1, -1 do frames[#frames + 1] = frame_of(named(self, process, found.stack[i])) end
    local in_c = found.running and math.min(periods - 1, found.held // PERIOD | 0) or 0
    if not found.running then frames[#frames + 1] = "(waiting)" end
    add(self, process, frames, periods - in_c)
    if in_c > 0 then
        frames[#frames + 1] = "(in C)"
        add(self, process, frames, in_c)
    end
end

--- Waits for the end of an answer: its bytes; nil and "late" | "gone".
local function wait_for(self, process, question)
    local asked, again = core.now(), false
    while true do
        local left = math.min(self.deadline - core.now(), again and 1 or AGAIN)
        if left <= 0 then return nil, "late" end
        if core.wait_fd(question:descriptor(), "r", left) then
            local news = question:news()
            if news == "done" then return question:answer() end
            if news == "dead" then return nil, "gone" end
        elseif not again and core.now() - asked >= AGAIN then
            again = true
            question:again(self.program.view, process.slot)
        elseif not proc.state(process.pid) then
            return nil, "gone"
        end
    end
end

--- What is said of a process that has not answered.
local function silence_of(process)
    local kernel = proc.state(process.pid)
    if not kernel then return nil end
    return (kernel.letter == "T" or kernel.letter == "t") and "(stopped)" or "(in C)"
end

--- One question; false when the process has ended.
local function sample(self, process, periods_since)
    local question <close>, why = core.ask(self.program.view, process.slot, "sample ")
    if not question then
        if why == "gone" then return false end
        add(self, process, { "(does not answer)" }, periods_since())
        return true
    end
    local bytes, reason = wait_for(self, process, question)
    local piece = bytes and answer.pieces_of(bytes)[1]
    local found = piece and core.codec.decode(piece)
    if found and found.pid ~= process.pid then return false end -- another one has its slot by now
    if found then
        count(self, process, found, periods_since())
    elseif reason == "late" then
        local silence = silence_of(process)
        if silence then add(self, process, { silence }, periods_since()) end
    end
    return reason ~= "gone"
end

--- Samples one process until the end.
local function follow(self, process)
    local from, done = core.now(), 0
    local function periods_since()
        local periods = math.max(1, ((core.now() - from) // PERIOD | 0) + 1 - done)
        done = done + periods
        return periods
    end
    while core.now() < self.deadline and sample(self, process, periods_since) do
        local pause = from + done * PERIOD - core.now()
        if pause > 0 then core.sleep(pause) end
    end
    if self.followed[process.slot] == process.generation then self.followed[process.slot] = nil end
end

local function follow_new(self)
    self.program:refresh()
    for _, process in ipairs(self.program.processes) do
        if self.followed[process.slot] ~= process.generation then
            self.followed[process.slot] = process.generation
            self.tasks[#self.tasks + 1] = core.spawn(follow, self, process)
        end
    end
    return #self.program.processes > 0
end

--- Samples a program for so long, or until it ends, or Ctrl-C: { counts = { [stack] = samples }, samples =,
--- seconds =, script = }.
---@param program mpengine.look.Program
---@param seconds number
function profile.of(program, seconds)
    local from = core.now()
    local self = {
        program = program, deadline = from + seconds, counts = {}, samples = 0, followed = {}, tasks = {}, sources = {},
    }
    require("mpengine.signal").signal("INT", function() self.deadline = core.now() end)
    while follow_new(self) and core.now() < self.deadline do
        core.sleep(math.min(NEWS, math.max(0, self.deadline - core.now())))
    end
    for _, task in ipairs(self.tasks) do core.join(task) end
    return { counts = self.counts, samples = self.samples, seconds = core.now() - from, script = program.script }
end

--- As folded text: one stack a line, with its number of samples.
function profile.folded(found)
    local lines = {}
    for stack, n in pairs(found.counts) do lines[#lines + 1] = ("%s %d\n"):format(stack, n) end
    table.sort(lines)
    return table.concat(lines)
end

return profile
