--- Finding programs that run, and asking their processes: the ground of the commands ps and dump,
--- of mp.dump and mp.metrics, and of whatever else looks into a program.
---
---     look.programs()            the programs of this user: a list of Program
---     look.program([pid])        the program of that process, or this one: Program | nil, message
---     program:ask(what, text)    asks every process; answers by slot
---
--- A Program is a view of shared memory (core.view), read-only, and what /proc says. What only a
--- process knows it answers itself: look/answer.lua has the other side, and handlers by `what`.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local proc = require "mpengine.look.proc"

local look = {}

local BEGIN_SECONDS <const> = 1      -- after which a process that has not begun to answer is given up
local AGAIN_SECONDS <const> = 0.3    -- after which it is asked once more
local NEXT_SECONDS <const> = 2       -- to the next piece of an answer that has begun

local REASONS <const> = {
    gone = "there is no process with pid %d",
    none = "the process with pid %d is no program of mpengine",
    foreign = "the program with pid %d belongs to another user",
    version = "the program with pid %d runs another version of mpengine",
    hidden = "programs are found through /proc, which is not there",
}

--- The message for a word that core.view or core.views has given.
local function message_of(reason, pid)
    local known = REASONS[reason]
    if known then return known:format(pid) end
    return pid and ("the program with pid %d cannot be read: %s"):format(pid, reason) or reason
end

---@class mpengine.look.Program
---@field pid integer  of its first process, or the oldest that is left
---@field main_ended boolean  its first process is gone
---@field script string
local Program = {}
Program.__index = Program

local VALUE_OPTIONS <const> = { ["-e"] = "-e", ["-l"] = false }

--- The script in a command line, or the name of a host.
local function script_of(command)
    local i, code = 2, nil
    local program = command[1] and command[1]:match("[^/]*$") or "?"
    if not (program:find "^mpengine" or program:find "^lua") then return program end
    while command[i] and command[i]:sub(1, 1) == "-" and command[i] ~= "-" do
        local option = command[i]:sub(1, 2)
        if option == "-e" then code = "-e" end
        if VALUE_OPTIONS[option] ~= nil and #command[i] == 2 then i = i + 1 end
        i = i + 1
        if option == "--" then break end
    end
    return command[i] or code or program
end

local function program_of(view)
    local self = setmetatable({ view = view }, Program)
    self:refresh()
    self.script = script_of(self.info.command)
    return self
end

--- Reads again what changes: info, processes, pid.
function Program:refresh()
    self.info = self.view:info()
    self.processes = self.view:processes()
    local first
    for _, p in ipairs(self.processes) do
        if not p.parent and (not first or first.parent or p.slot < first.slot) then first = p end
        first = first or p
    end
    self.main_ended = not first or first.parent ~= nil
    self.pid = first and first.pid or self.pid or 0 -- that of a program that has ended stays
end

--- The programs of this user that run, by pid; and the pids of those of other versions. Or nil and why they
--- cannot be found.
---@return mpengine.look.Program[]? programs
---@return integer[]|string unreadable
function look.programs()
    local list, unreadable = {}, {}
    local views, reason = core.views()
    if not views then return nil, message_of(reason) end
    for _, found in ipairs(views) do
        local program = found.view and program_of(found.view)
        if program and #program.processes > 0 then
            list[#list + 1] = program
        elseif found.reason == "version" then
            unreadable[#unreadable + 1] = found.pid
        end
    end
    table.sort(list, function(a, b) return a.pid < b.pid end)
    return list, unreadable
end

--- The program that a process belongs to, or this process's own.
---@param pid? integer
---@return mpengine.look.Program?
---@return string? message
function look.program(pid)
    local view, reason = core.view(pid)
    if view then return program_of(view) end
    return nil, message_of(reason, pid)
end

-- ---- asking ----

local function wait_for_news(question, seconds)
    if seconds <= 0 or not core.wait_fd(question:descriptor(), "r", seconds) then return nil end
    return question:news()
end

--- The answer of this process, without a signal.
local function answer_self(what, text)
    local answer = require "mpengine.look.answer"
    local step, pieces, more = answer.handlers[what](text), {}
    repeat
        pieces[#pieces + 1], more = step()
        core.rest()
    until not more
    return table.concat(pieces)
end

--- The bytes of the answer of one process; or nil and why there is none.
local function ask(program, process, text)
    local kernel = proc.state(process.pid)
    if not kernel then return nil, "ended" end
    if kernel.letter == "T" or kernel.letter == "t" then return nil, "stopped" end
    local question <close>, why = core.ask(program.view, process.slot, text)
    if not question then return nil, why == "gone" and "ended" or why end
    local begun = wait_for_news(question, AGAIN_SECONDS)
    if not begun then
        question:again(program.view, process.slot)
        begun = wait_for_news(question, BEGIN_SECONDS - AGAIN_SECONDS)
    end
    if not begun then return nil, "silent" end
    local news = begun
    while news == "begun" do news = wait_for_news(question, NEXT_SECONDS) or "silent" end
    if news == "done" then return question:answer() end
    return nil, news == "dead" and "ended" or news
end

--- Asks every process, or those of a list, at the same time.
---@param what string  the name of a handler of look/answer.lua
---@param text? string  for the handler
---@param processes? table[]
---@return table<integer, { bytes: string?, reason: string? }> answers  by slot; reason: "ended",
---  "stopped", "mute" (it does not answer: a host's), "silent" (in C code, say), or a message
function Program:ask(what, text, processes)
    local answers, tasks, own = {}, {}, nil
    for _, process in ipairs(processes or self.processes) do
        if process.pid == core.pid() then
            own = process
        else
            tasks[#tasks + 1] = core.spawn(function()
                local bytes, reason = ask(self, process, what .. " " .. (text or ""))
                answers[process.slot] = { bytes = bytes, reason = reason }
            end)
        end
    end
    if own then answers[own.slot] = { bytes = answer_self(what, text or "") } end
    for _, task in ipairs(tasks) do core.join(task) end
    return answers
end

--- The process of a slot.
function Program:process_of(slot)
    for _, process in ipairs(self.processes) do
        if process.slot == slot then return process end
    end
end

function Program:close() self.view:close() end
Program.__close = Program.close

return look
