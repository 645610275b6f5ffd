--- The events of a trace in the trace format of Chrome, which Perfetto reads too. Each process is one
--- there, each task a thread of it; a thread of its own has the items of a pool that it runs.
--- Where records were lost, what was open is closed, and what follows is of the process that the
--- ring names next: a process notes its name now and then.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local tasks = require "mpengine.look.tasks"

local RECORD <const> = 32 -- bytes
local LOCK_TASK <const> = 0x3fffffff -- what of the owner of a lock is the number of a task

local TEXT <const>, PROCESS <const>, EXIT <const>, START <const>, PUT <const>, GET <const> = 1, 2, 3, 4, 5, 6
local LOCK <const>, UNLOCK <const>, SITE <const>, SPAWN <const>, RUN <const>, WAIT <const> = 7, 8, 9, 10, 11, 12
local PAUSE <const>, END <const>, ITEM <const>, ITEM_END <const>, OBJECT <const> = 13, 14, 15, 16, 17
local TITLE <const>, STILL <const>, LOST <const> = 18, 19, 20

local SOURCES <const> = { "other tasks", "the time", "a descriptor", "the end of a process", "any of several" }
local MAIN <const> = -1      -- the site of the main task
local POOL <const> = 1 << 30 -- added to the number of a task: the thread of its pool items

local ESCAPES <const> = { ['"'] = '\\"', ["\\"] = "\\\\" }

local function json_text(s)
    s = utf8.len(s) and s or core.escaped(s)
    return '"' .. s:gsub('[%c"\\\127]', function(c) return ESCAPES[c] or ("\\u%04x"):format(c:byte()) end) .. '"'
end

---@class mpengine.look.Events
local Events = {}
Events.__index = Events

--- What core.now calls a time of a record, in ns.
function Events:time(ticks)
    local clock = self.found.clock
    return clock[2] + ((ticks - clock[1]) * self.rate) // 1 | 0
end

local function us(self, at) return (at - self.zero) / 1000 end

local function add(self, format, ...) self.out[#self.out + 1] = format:format(...) end

function Events:slice(name, cat, pid, tid, from, to, args)
    from = math.max(from, self.zero)
    add(self, '{"ph":"X","name":%s,"cat":"%s","pid":%d,"tid":%d,"ts":%.3f,"dur":%.3f%s}', json_text(name), cat, pid,
        tid, us(self, from), math.max(0, to - from) / 1000, args or "")
end

function Events:instant(name, cat, pid, tid, at)
    add(self, '{"ph":"i","s":"t","name":%s,"cat":"%s","pid":%d,"tid":%d,"ts":%.3f}', json_text(name), cat, pid, tid,
        us(self, at))
end

--- An arrow; from and to are { at, pid, tid }.
function Events:flow(name, cat, from, to)
    self.flows = self.flows + 1
    add(self, '{"ph":"s","id":%d,"name":"%s","cat":"%s","pid":%d,"tid":%d,"ts":%.3f}', self.flows, name, cat, from[2],
        from[3], us(self, math.max(from[1], self.zero)))
    add(self, '{"ph":"f","bp":"e","id":%d,"name":"%s","cat":"%s","pid":%d,"tid":%d,"ts":%.3f}', self.flows, name, cat,
        to[2], to[3], us(self, math.max(to[1], from[1])))
end

function Events:object(handle) return self.found.objects[handle] or ("object %x"):format(handle & 0xffffffffffffff) end

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
    add(self, '{"ph":"e","id":"%x","name":%s,"cat":"lock","pid":%d,"tid":%d,"ts":%.3f}', handle,
        json_text(self:object(handle)), p.pid, held, us(self, at))
end

local ITEM_NS <const> = 200 -- the width of a put or a get, to be seen: up to the next record

local function end_move(self, p, at)
    local name, from, tid, number = table.unpack(p.move)
    p.move = nil
    self:slice(name, "queue", p.pid, tid, from, math.min(at, from + ITEM_NS), (',"args":{"item":%d}'):format(number))
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
    end_item(self, p, at)
end

local function end_process(self, p, at)
    end_all(self, p, at)
    p.ended = true
end

local function push(map, key, value)
    local list = map[key]
    if list then list[#list + 1] = value else map[key] = { value } end
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
    p.current, p.run_from = tid, at
    local from = p.spawned[tid]
    if from then
        p.spawned[tid] = nil
        self:flow("spawn", "task", from, { at, p.pid, tid })
    end
end

function on.wait(self, p, at, tid, object, source)
    if not p.current and not p.has_run then p.current, p.run_from, p.main = tid, p.began, p.main or tid end
    p.has_run = true
    if p.current == tid then end_run(self, p, at) end
    local what = source == 0 and self:object(object) or p.titles[object] or SOURCES[source] or "something"
    p.waits[tid] = p.waits[tid] or { at, "waits for " .. what }
    p.waits_on = p.waits_on or {}
    p.waits_on[tid] = object
end

function on.pause(self, p, at, tid)
    if p.current == tid then end_run(self, p, at) end
end

function on.task_end(self, p, at, tid, _, returned)
    if p.current == tid then end_run(self, p, at) end
    end_wait(self, p, tid, at)
    if returned == 0 then self:instant("ends by an error", "task", p.pid, tid, at) end
end

function on.spawn(self, p, at, tid, _, site)
    p.names[tid] = p.sites[site]
    p.spawned[tid] = { at, p.pid, current(p) }
    p.threads[current(p)] = true
    self:instant("spawn " .. (p.sites[site] or "task"), "task", p.pid, current(p), at)
end

function on.put(self, p, at, number, object)
    local tid = current(p)
    p.threads[tid] = true
    p.move = { "put " .. self:object(object), at, tid, number }
    self.puts[object] = self.puts[object] or {}
    self.puts[object][number] = { at, p.pid, tid }
end

function on.get(self, p, at, number, object)
    local tid = current(p)
    p.threads[tid] = true
    p.move = { "get " .. self:object(object), at, tid, number }
    push(self.gets, object, { at, p.pid, tid, number })
end

function on.lock(self, p, at, owner, handle)
    local tid = owner & LOCK_TASK
    tid = p.names[tid] and tid or current(p)
    p.locks[handle], p.threads[tid] = tid, true
    add(self, '{"ph":"b","id":"%x","name":%s,"cat":"lock","pid":%d,"tid":%d,"ts":%.3f}', handle,
        json_text(self:object(handle)), p.pid, tid, us(self, at))
    if p.waits_on and p.waits_on[tid] == handle then
        p.waits_on[tid] = nil
        push(self.acquired, handle, { at, p.pid, tid })
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
    [ITEM_END] = on.item_end,
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

--- The names of objects, which other processes than their makers use.
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

--- Goes on behind a loss of so many records: the process, nil when it is not known.
function Events:go_on(p, bytes, at, count, when)
    local pid, name = owner_after(bytes, at)
    if p and not p.ended then
        end_all(self, p, p.last)
        p.waits_on = nil
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
            local name
            name, at = text_at(bytes, at)
            local place = object ~= 0 and self.found.program and self.found.program.view:place(object)
            if p then p.titles[number] = place and ("%s made at %s"):format(name, place) or name end
        elseif what == LOST then
            p = self:go_on(p, bytes, at, more, ticks == 0 and p and p.last or when)
        elseif what == EXIT and p then
            end_process(self, p, when)
            self:instant("exits", "process", p.pid, current(p), when)
            p.threads[current(p)] = true
        elseif p and HANDLERS[what] then
            if p.move then end_move(self, p, when) end
            HANDLERS[what](self, p, when, number, object, more)
        elseif not p and what ~= STILL and what ~= TEXT and what ~= OBJECT then
            self.dropped = self.dropped + 1
        end
    end
    if p and not p.ended then end_process(self, p, self.finish) end
end

--- The last of a list, by time, that is not later.
local function last_before(list, at)
    local low, high = 0, #list
    while low < high do
        local middle = (low + high + 1) // 2
        if list[middle][1] <= at then low = middle else high = middle - 1 end
    end
    return list[low]
end

local function by_time(a, b) return a[1] < b[1] end

function Events:connect()
    for object, gets in pairs(self.gets) do
        local puts = self.puts[object] or {}
        for _, get in ipairs(gets) do
            if puts[get[4]] then self:flow("item", "queue", puts[get[4]], get) end
        end
    end
    for handle, list in pairs(self.acquired) do
        local released = self.released[handle] or {}
        table.sort(released, by_time)
        for _, taken in ipairs(list) do
            local from = last_before(released, taken[1])
            if from then self:flow("lock", "lock", from, taken) end
        end
    end
    for _, begin in ipairs(self.begins) do
        local slot, at, p = table.unpack(begin)
        local starts = self.starts[slot]
        local from = starts and last_before(starts, at)
        if from then
            self:instant("begins", "process", p.pid, current(p), at)
            self:flow("start", "process", from, { at, p.pid, current(p) })
        end
    end
end

function Events:describe()
    for _, p in ipairs(self.processes) do
        add(self, '{"ph":"M","name":"process_name","pid":%d,"tid":0,"args":{"name":%s}}', p.pid, json_text(p.name))
        for tid in pairs(p.threads) do
            local task = tid >= POOL and tid - POOL or tid
            local name = tid >= POOL and "pool items of " .. name_of(p, task) or name_of(p, task)
            add(self, '{"ph":"M","name":"thread_name","pid":%d,"tid":%d,"args":{"name":%s}}', p.pid, tid,
                json_text(("%s #%d"):format(name, task)))
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
        dropped = found.dropped, rate = (clock[4] - clock[2]) / math.max(1, clock[3] - clock[1]),
    }, Events)
    local rings = {}
    for slot, chunks in pairs(found.chunks) do
        rings[slot] = table.concat(chunks) .. cut_record(found.cut[slot])
        self:learn(rings[slot])
    end
    for slot, bytes in pairs(rings) do self:read(slot, bytes) end
    add_silent(self)
    self:connect()
    self:describe()
    local head = ('{"displayTimeUnit":"ns","otherData":{"program":%s,"pid":%d,"seconds":%.6g,"dropped":%d},'
        .. '"traceEvents":[\n'):format(json_text(found.script), found.pid,
        found.to - found.from, self.dropped)
    return head .. table.concat(self.out, ",\n") .. "\n]}\n", self.dropped
end
