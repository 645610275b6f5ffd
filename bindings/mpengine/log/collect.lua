--- Records of the log from process to process. A process with handlers has an inbox, a queue that its
--- children inherit; they put their records into it, and so do children of children that have no
--- handlers of their own. A task of the process takes them out, in their order.
---
--- The inbox has a bound. While it is full, a process waits with its record for a moment, once, and drops
--- those that follow until there is room; a shared number counts them, and the taker says how many.
---
--- A process that is killed leaves what it has put, whole, and nothing else.
local core = require "mpengine.core"
local errors = require "mpengine.errors"
local format = require "mpengine.log.format"

local collect = {}

local WAITING_MOST <const> = 10000 -- records in an inbox
local PATIENCE <const> = 1 -- seconds that the first record waits for room

---@class mpengine.log.Inbox
---@field queue userdata
---@field dropped userdata a number: records so far that found no room

local inbox, owner -- of this process, or of the one that it was forked from: owner is a pid
local upstream -- where the records of this process go
local is_full, misses = false, false -- upstream: found so; and records are missing before the next
local told = 0 -- of inbox.dropped
local guard -- luacheck: ignore 231

local function look()
    if inbox and owner ~= core.pid() then
        inbox, upstream = nil, inbox
        is_full, misses = false, false
    end
end

local function unpack(r)
    return {
        time = r[1], level = r[2], level_name = format.level_name(r[2]), name = r[3], message = r[4], process = r[5],
        pid = r[6], top = r[7] or nil,
    }
end

local function tell_dropped()
    local n = inbox.dropped.value - told
    if n == 0 then return end
    told = told + n
    collect.note(("%d record%s of other processes dropped: %d waited already"):format(n, n == 1 and "" or "s",
        WAITING_MOST))
end

local function take_one(r)
    if r[8] then tell_dropped() end
    collect.take(unpack(r))
    if inbox.queue:qsize() == 0 then tell_dropped() end
end

local function take_all()
    while true do take_one(inbox.queue:get()) end
end

-- A state that is closed, without the command's end of a program, takes what the children still log: those
-- whose objects were made after the guard are finalized by now.
local function last_ones()
    if core.is_program() then
        core.catch_interrupts()
        for child in core.dropped_child do
            if not core.child_wait(child, core.patience()) then
                core.tell_waiting()
                core.child_wait(child)
            end
        end
    end
    collect.rest()
end

-- It is finalized before the inbox, and the handlers that there are now.
local function set_guard()
    local pid, this = core.pid(), {}
    guard = setmetatable(this, { __gc = function()
        if guard == this and core.pid() == pid then pcall(last_ones) end
    end })
end

--- From now on take(record) is called with the records of the children that are started, and note(text)
--- with what is to be said of them.
function collect.begin(take, note)
    look()
    if not inbox then
        collect.take, collect.note = take, note
        inbox = {
            queue = core.makers.Queue { name = "records of the log", maxsize = WAITING_MOST },
            dropped = core.makers.RawValue { type = "q", name = "dropped records of the log" },
        }
        owner, told = core.pid(), 0
        core.spawn(take_all)
    end
    set_guard()
end

--- Takes what is there, at the end of the process.
function collect.rest()
    look()
    while inbox do
        local record = inbox.queue:get(0)
        if not record then return tell_dropped() end
        take_one(record)
    end
end

--- Gives a record to the process above, if that collects them.
function collect.send(record)
    look()
    if not upstream then return end
    local good, put, why = pcall(upstream.queue.put, upstream.queue,
        { record.time, record.level, record.name, record.message, record.process, record.pid, record.top or false,
            misses }, is_full and 0 or PATIENCE)
    if good and put then
        is_full, misses = false, false
    elseif good and why == "full" then
        is_full, misses = true, true
        upstream.dropped:add(1)
    else
        core.write_error(("%s (not collected: %s)\n"):format(format.text(record), errors.message(good and why or put)))
        if not good then errors.pass(put) end
    end
end

--- Do the records of this process go anywhere?
function collect.has_upstream()
    look()
    return upstream ~= nil
end

--- For a child in a new program: where it sends to; and there, that place.
---@return mpengine.log.Inbox?
function collect.place()
    look()
    return inbox or upstream
end

function collect.connect(place) upstream = place end

return collect
