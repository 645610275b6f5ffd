--- The events of a trace in the trace format of Chrome, which Perfetto reads too. Each process is one
--- there, each task a thread of it; a thread of its own has the items of a pool that it runs.
--- Where records were lost, what was open is closed, and what follows is of the process that the
--- ring names next: a process notes its name now and then. What was open when tracing paused is closed, too.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local Chrome = require "mpengine.look.chrome"
local connect = require "mpengine.look.arrows"
local tasks = require "mpengine.look.tasks"

local RECORD <const> = 32 -- bytes
local LOCK_TASK <const> = 0x3fffffff -- what of the owner of a lock is the number of a task

local TEXT <const>, PROCESS <const>, EXIT <const>, START <const>, PUT <const>, GET <const> = 1, 2, 3, 4, 5, 6
local LOCK <const>, UNLOCK <const>, SITE <const>, SPAWN <const>, RUN <const>, WAIT <const> = 7, 8, 9, 10, 11, 12
local PAUSE <const>, END <const>, ITEM <const>, ITEM_END <const>, OBJECT <const> = 13, 14, 15, 16, 17
local TITLE <const>, DID <const>, WAKE <const>, DEATH <const>, PART <const> = 18, 19, 20, 21, 22
local OFFLOAD <const>, OFFLOAD_END <const>, STILL <const>, LOST <const>, PAUSED <const> = 23, 24, 25, 26, 27

-- What was done with an object, by its number; and which of it may end a wait for the object.
local VERBS <const> = {
    "acquire", "release", "set", "clear", "arrive at", "open", "abort", "reset", "notify", "insert into",
    "remove from", "update", "close",
}
local WAKES <const> = { false, true, true, false, false, true, true, true, true, false, false, false, true }
local SET <const>, SET_IN <const> = 3, { Dict = true, List = true } -- a part of these
local ALL <const> = 0xffffffff -- the number of those that are notified
local LOCKS <const> = { Lock = true, RLock = true }
local QUEUES <const> = { Queue = true, JoinableQueue = true, Pipe = true }

local SOURCES <const> = { "other tasks", "the time", "a descriptor", "the end of a process", "any of several" }
local MAIN <const> = -1      -- the site of the main task
local OF_PROCESS <const> = 4
-- Added to the number of a task: the line of its pool items, and of the thread that works for it.
local POOL <const>, THREAD <const> = 1 << 30, 1 << 29
local LINES <const> = { { POOL, "pool items of " }, { THREAD, "thread for " }, { 0, "" } }

---@class mpengine.look.Events: mpengine.look.Chrome
local Events = setmetatable({}, Chrome)
Events.__index = Events

local function push(map, key, value)
    local list = map[key]
    if list then list[#list + 1] = value else map[key] = { value } end
end

--- What core.now calls a time of a record, in ns.
function Events:time(ticks)
    local clock = self.found.clock
    return clock[2] + ((ticks - clock[1]) * self.rate) // 1 | 0
end

--- The object, or what it is a part of.
function Events:whole(handle) return self.found.parts[handle] or handle end

function Events:kind(handle) return core.kind_of(self:whole(handle)) or "object" end

function Events:object(handle)
    handle = self:whole(handle)
    return self.found.objects[handle] or ("mp.%s: 0x%x"):format(self:kind(handle), handle & 0xffffffffffffff)
end

--- What events of the object are called by.
function Events:cat(handle)
    local kind = self:kind(handle)
    return QUEUES[kind] and kind ~= "Pipe" and "queue" or kind:lower()
end

--- A task that was there when the trace began.
local function add_known(self, p, id, group, since)
    p.names[id] = tasks.name(id, group)
    if group.is_main then p.main = p.main or id end
    if group.state ~= "waiting" then return end
    local what = group.object and self:object(group.object) or group.waits_for or "something"
    p.waits[id] = { since * 1e9 // 1 | 0, "waits for " .. what }
end

-- What is known of one process, as its ring is read.
local function new_process(self, pid, name, at)
    local p = {
        pid = pid, name = name, names = {}, threads = {}, waits = {}, sites = {}, titles = {}, spawned = {}, locks = {},
        waits_on = {}, joins = {}, woken = {}, offloads = {},
    }
    p.began, p.last = at, at
    local known = self.found.tasks[pid]
    if known then
        known.list:each(function(id, group, seconds) add_known(self, p, id, group, known.at - seconds) end)
    end
    self.processes[#self.processes + 1] = p
    return p
end

--- The task that runs: before the first record of a task, the main one.
local function current(p) return p.current or p.main or 1 end

local function name_of(p, tid) return p.names[tid] or tid == p.main and "main" or "task" end

local function end_run(self, p, at)
    if p.current then
        self:slice(name_of(p, p.current), "task", p.pid, p.current, p.run_from, at)
        p.threads[p.current], p.current = true, nil
    end
end

local function end_wait(self, p, tid, at)
    local wait = p.waits[tid]
    if not wait then return end
    self:slice(wait[2], "wait", p.pid, tid, wait[1], at)
    p.threads[tid], p.waits[tid] = true, nil
end

local function end_lock(self, p, handle, at)
    local held = p.locks[handle]
    if not held then return end
    p.locks[handle] = nil
    self:span("e", handle, self:object(handle), "lock", p.pid, held, at)
end

local MOVE_NS <const> = 200 -- the width of a put, a get and the like, to be seen: up to the next record

--- What is done at once, by the current task.
local function begin_move(self, p, at, verb, handle, args)
    local tid = current(p)
    p.threads[tid] = true
    p.move = { verb .. " " .. self:object(handle), self:cat(handle), at, tid, args }
    return { at, p.pid, tid }
end

local function end_move(self, p, at)
    local name, cat, from, tid, args = table.unpack(p.move)
    p.move = nil
    self:slice(name, cat, p.pid, tid, from, math.min(at, from + MOVE_NS), args)
end

local function end_offload(self, p, at, tid)
    local from = p.offloads[tid]
    if not from then return end
    p.threads[tid + THREAD], p.offloads[tid] = true, nil
    self:slice("offloaded by " .. name_of(p, tid), "offload", p.pid, tid + THREAD, from, at)
end

local function end_item(self, p, at)
    if not p.item then return end
    self:slice(p.item[2], "pool", p.pid, p.item[3], p.item[1], at)
    p.threads[p.item[3]], p.item = true, nil
end

--- Nothing is known any more of what was going on.
local function end_all(self, p, at)
    if p.move then end_move(self, p, at) end
    end_run(self, p, at)
    for tid in pairs(p.waits) do end_wait(self, p, tid, at) end
    for handle in pairs(p.locks) do end_lock(self, p, handle, at) end
    for tid in pairs(p.offloads) do end_offload(self, p, at, tid) end
    end_item(self, p, at)
end

local function end_process(self, p, at)
    end_all(self, p, at)
    p.ended = true
end

--- By the number of the record: function(self, p, at, number, object, more)
local on = {}

function on.run(self, p, at, tid, _, site)
    if site == MAIN then
        p.names[tid], p.main = p.names[tid] or "main", tid
    else
        p.names[tid] = p.names[tid] or p.sites[site]
    end
    end_run(self, p, at)
    end_wait(self, p, tid, at)
    p.current, p.run_from, p.just_ended = tid, at, nil
    local spawned, woken = p.spawned[tid], p.woken[tid]
    if spawned then self:flow("spawn", "task", spawned, { at, p.pid, tid }) end
    if woken then self:flow("wake", "task", woken, { at, p.pid, tid }) end
    p.spawned[tid], p.woken[tid] = nil, nil
    if p.joins[tid] then
        push(self.joined, p.joins[tid], { at, p.pid, tid })
        p.joins[tid] = nil
    end
    local wait = p.waits_on[tid]
    if wait and not LOCKS[wait.kind] and not QUEUES[wait.kind] then
        push(self.woken, wait.object, { at, p.pid, tid, wait.since })
    end
end

function on.wait(self, p, at, tid, object, source)
    if not p.current and not p.has_run then p.current, p.run_from, p.main = tid, p.began, p.main or tid end
    p.has_run = true
    if p.current == tid then end_run(self, p, at) end
    p.waits_on[tid], p.joins[tid] = nil, nil
    local what = p.titles[object] or SOURCES[source] or "something"
    if source == 0 then
        what = self:object(object)
        p.waits_on[tid] = { object = object, kind = self:kind(object), since = at }
    elseif source == OF_PROCESS then
        what = ("the end of process %s (pid %d)"):format(self.found.names[object] or "?", object)
        p.joins[tid] = object
    end
    p.waits[tid] = p.waits[tid] or { at, "waits for " .. what }
end

function on.pause(self, p, at, tid)
    if p.current == tid then end_run(self, p, at) end
end

function on.task_end(self, p, at, tid, _, returned)
    if p.current == tid then end_run(self, p, at) end
    end_wait(self, p, tid, at)
    p.just_ended = tid
    if returned == 0 then self:instant("ends by an error", "task", p.pid, tid, at) end
end

function on.spawn(self, p, at, tid, _, site)
    p.names[tid] = p.sites[site]
    p.spawned[tid] = { at, p.pid, current(p) }
    p.threads[current(p)] = true
    self:instant("spawn " .. (p.sites[site] or "task"), "task", p.pid, current(p), at)
end

function on.put(self, p, at, number, object)
    local verb = self:kind(object) == "Pipe" and "send to" or "put"
    local from = begin_move(self, p, at, verb, object, (',"args":{"item":%d}'):format(number))
    self.puts[object] = self.puts[object] or {}
    self.puts[object][number] = from
    local wait = p.waits_on[from[3]]
    if wait and wait.object == object then
        push(self.roomy, object, { at, p.pid, from[3], wait.since })
        p.waits_on[from[3]] = nil
    end
end

function on.get(self, p, at, number, object)
    local verb = self:kind(object) == "Pipe" and "receive from" or "get"
    local to = begin_move(self, p, at, verb, object, (',"args":{"item":%d}'):format(number))
    to[4] = number
    p.waits_on[to[3]] = nil
    push(self.gets, object, to)
end

function on.did(self, p, at, number, object, did)
    local count = number == ALL and '"all"' or number
    local verb = did == SET and SET_IN[self:kind(object)] and "set in" or VERBS[did] or "use"
    local from = begin_move(self, p, at, verb, object, (',"args":{"count":%s}'):format(count))
    if WAKES[did] then push(self.wakes, object, from) end
end

function on.wake(_, p, at, tid)
    local by = p.current or p.just_ended
    if by and by ~= tid then
        p.woken[tid], p.threads[by] = { at, p.pid, by }, true
    end
end

function on.death(self, p, at, pid)
    local name = self.found.names[pid]
    p.threads[current(p)] = true
    self:instant(("finds that process %s (pid %d) was killed"):format(name or "?", pid), "process", p.pid, current(p),
        at)
end

function on.offload(_, p, at, tid) p.offloads[tid] = at end

function on.offload_end(self, p, at, tid) end_offload(self, p, at, tid) end

function on.lock(self, p, at, owner, handle)
    local tid = owner & LOCK_TASK
    tid = p.names[tid] and tid or current(p)
    p.locks[handle], p.threads[tid] = tid, true
    self:span("b", handle, self:object(handle), "lock", p.pid, tid, at)
    local wait = p.waits_on[tid]
    if wait and wait.object == handle then
        p.waits_on[tid] = nil
        push(self.acquired, handle, { at, p.pid, tid, wait.since })
    end
end

function on.unlock(self, p, at, _, handle)
    push(self.released, handle, { at, p.pid, p.locks[handle] or current(p) })
    end_lock(self, p, handle, at)
end

function on.start(self, p, at, slot)
    push(self.starts, slot, { at, p.pid, current(p) })
    self:instant("starts a process", "process", p.pid, current(p), at)
end

function on.item(self, p, at, number, _, item)
    end_item(self, p, at)
    p.item = { at, ("pool task %d, item %d"):format(number, item + 1), current(p) + POOL }
end

on.item_end = end_item

local HANDLERS <const> = {
    [START] = on.start, [PUT] = on.put, [GET] = on.get, [LOCK] = on.lock, [UNLOCK] = on.unlock, [SPAWN] = on.spawn,
    [RUN] = on.run, [WAIT] = on.wait, [PAUSE] = on.pause, [END] = on.task_end, [ITEM] = on.item,
    [ITEM_END] = on.item_end, [DID] = on.did, [WAKE] = on.wake, [DEATH] = on.death, [OFFLOAD] = on.offload,
    [OFFLOAD_END] = on.offload_end,
}

--- The text behind a record, and where the next one is.
local function text_at(bytes, at)
    local parts = {}
    while at + RECORD - 1 <= #bytes do
        local part, size, what = string.unpack("<c24I4I4", bytes, at)
        if what ~= TEXT then break end
        parts[#parts + 1] = part:sub(1, size)
        at = at + RECORD
    end
    return table.concat(parts), at
end

--- The names of objects and processes, which other processes than theirs tell of.
function Events:learn(bytes)
    local at = 1
    while at + RECORD - 1 <= #bytes do
        local what = string.unpack("<I4", bytes, at + RECORD - 4)
        at = at + RECORD
        if what == OBJECT then
            local object = string.unpack("<i8", bytes, at - RECORD + 8)
            local name, next_at = text_at(bytes, at)
            at = next_at
            self.found.objects[object] = ("mp.%s %s"):format(core.kind_of(object) or "?", name)
        elseif what == PART then
            local object, whole = string.unpack("<i8i8", bytes, at - RECORD + 8)
            self.found.parts[object] = whole
        elseif what == PROCESS then
            local pid = string.unpack("<I4", bytes, at - 8)
            self.found.names[pid], at = text_at(bytes, at)
        end
    end
end

--- Which process has noted what is behind a loss: its pid and name; nil when the ring does not say.
local function owner_after(bytes, at)
    while at + RECORD - 1 <= #bytes do
        local number, what = string.unpack("<I4I4", bytes, at + RECORD - 8)
        if what == PROCESS then return nil end
        at = at + RECORD
        if what == STILL then return number, (text_at(bytes, at)) end
    end
    return nil
end

local function forget_all(self, p, at)
    end_all(self, p, at)
    p.waits_on, p.joins, p.woken = {}, {}, {}
end

--- Goes on behind a pause.
function Events:pass(p, from, to)
    forget_all(self, p, from)
    p.threads[current(p)] = true
    self:slice("not traced", "paused", p.pid, current(p), from, to)
    p.last = to
end

--- Goes on behind a loss of so many records: the process, nil when it is not known.
function Events:go_on(p, bytes, at, count, when)
    local pid, name = owner_after(bytes, at)
    if p and not p.ended then
        forget_all(self, p, p.last)
        if pid ~= p.pid and at <= #bytes then p.ended = true end
    end
    if pid and (not p or p.pid ~= pid) then
        p = new_process(self, pid, name, when)
        p.waits = {} -- they may have ended
    end
    if p and (not p.ended or at > #bytes) then
        p.threads[current(p)] = true
        self:instant(count .. " events were dropped", "dropped", p.pid, current(p), math.max(when, p.last))
    end
    if not p or p.ended then return nil end
    return p
end

--- What a task waits for in its process: a kind and its place, or, behind a zero, its name.
local function title_of(text)
    local kind, name = text:match "^(%Z*)%z(.*)$"
    return kind and ("%s '%s'"):format(kind, core.escaped(name)) or text
end

--- The records of one slot, whose process may be another one after a while.
function Events:read(slot, bytes)
    local at, p = 1, nil
    while at + RECORD - 1 <= #bytes do
        local ticks, object, more, number, what = string.unpack("<i8i8i8I4I4", bytes, at)
        local when = self:time(ticks)
        if p and what ~= LOST and what ~= TEXT then
            when = math.max(when, p.last) -- a counter may be read a little early
            p.last = when
        end
        at = at + RECORD
        if what == PROCESS then
            local name
            name, at = text_at(bytes, at)
            if p and not p.ended then end_process(self, p, when) end
            p = new_process(self, number, name, when)
            self.begins[#self.begins + 1] = { slot, when, p }
        elseif what == SITE then
            local name
            name, at = text_at(bytes, at)
            if p then p.sites[number] = name end
        elseif what == TITLE then
            local text
            text, at = text_at(bytes, at)
            if p then p.titles[number] = title_of(text) end
        elseif what == PAUSED then
            if p and not p.ended then self:pass(p, when, self:time(object)) end
        elseif what == LOST then
            p = self:go_on(p, bytes, at, more, ticks == 0 and p and p.last or when)
        elseif what == EXIT and p then
            end_process(self, p, when)
            self:instant("exits", "process", p.pid, current(p), when)
            p.threads[current(p)] = true
            self.exits[p.pid] = { when, p.pid, current(p) }
        elseif p and HANDLERS[what] then
            if p.move then end_move(self, p, when) end
            HANDLERS[what](self, p, when, number, object, more)
        elseif not p and what ~= STILL and what ~= TEXT and what ~= OBJECT and what ~= PART then
            self.dropped = self.dropped + 1
        end
    end
    if p and not p.ended then end_process(self, p, self.finish) end
end

function Events:describe()
    for _, p in ipairs(self.processes) do
        self:call("process", p.pid, 0, p.name)
        for tid in pairs(p.threads) do
            local i = 1
            while tid < LINES[i][1] do i = i + 1 end
            local task = tid - LINES[i][1]
            self:call("thread", p.pid, tid, ("%s%s #%d"):format(LINES[i][2], name_of(p, task), task))
        end
    end
end

--- Processes that have noted nothing: they have waited all the time.
local function add_silent(self)
    local known = {}
    for _, p in ipairs(self.processes) do known[p.pid] = true end
    for pid, process in pairs(self.found.began) do
        if not known[pid] then end_process(self, new_process(self, pid, process.name, self.zero), self.finish) end
    end
end

--- What a file had no room for, as a record.
local function cut_record(n)
    return n > 0 and ("<i8i8i8I4I4"):pack(0, 0, n, 0, LOST) or ""
end

--- The JSON text of what trace.lua has found, and how many events are missing in it.
---@return string json
---@return integer dropped
return function(found)
    local clock = found.clock
    local self = setmetatable({
        found = found, out = {}, zero = found.from * 1e9 // 1 | 0, finish = found.to * 1e9 // 1 | 0, processes = {},
        begins = {}, starts = {}, puts = {}, gets = {}, acquired = {}, released = {}, flows = 0,
        wakes = {}, woken = {}, roomy = {}, joined = {}, exits = {},
        dropped = found.dropped, rate = (clock[4] - clock[2]) / math.max(1, clock[3] - clock[1]),
    }, Events)
    local rings = {}
    for slot, chunks in pairs(found.chunks) do
        rings[slot] = table.concat(chunks) .. cut_record(found.cut[slot])
        self:learn(rings[slot])
    end
    for slot, bytes in pairs(rings) do self:read(slot, bytes) end
    add_silent(self)
    connect(self)
    self:describe()
    return self:text(found.script, found.pid, found.to - found.from, self.dropped, found.paused), self.dropped
end
