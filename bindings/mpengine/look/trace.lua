--- A trace: what the processes of a program note in the rings of a tracer (core.tracer), and the
--- same as events of the trace format of Chrome, which Perfetto reads too. Each process is one
--- there, each task a thread of it; a thread of its own has the items of a pool that it runs.
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
local LOCK_TASK <const> = 0x3fffffff -- what of the owner of a lock is the number of a task

-- ---- collecting ----

local function read_rings(self)
    for slot = 0, SLOTS - 1 do
        local bytes, lost = self.tracer:read(slot)
        self.dropped = self.dropped + lost
        local room = (MOST - self.count) * RECORD
        if #bytes > room then
            self.dropped = self.dropped + (#bytes - room) // RECORD
            bytes = bytes:sub(1, room)
        end
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

local function new(tracer, program)
    return {
        program = program, tracer = tracer, chunks = {}, objects = {}, tasks = {}, dropped = 0, count = 0,
        from = core.now(), began = {}, rounds = 0,
    }
end

--- Reads what is new; the names of objects now and then.
local function go_on(self)
    if self.program and self.rounds % NAMES_EVERY == 0 then note_names(self) end
    self.rounds = self.rounds + 1
    read_rings(self)
end

local function finish(self)
    if self.program then note_names(self) end
    read_rings(self)
    self.to = core.now()
    self.tracer:close()
    return self
end

--- Traces a program for so long, or until it ends, or Ctrl-C.
---@param program mpengine.look.Program
---@param seconds number
---@return table? found
---@return string? message
function trace.of(program, tracer, seconds)
    local self = new(tracer, program)
    local ok, by = tracer:start(program.view)
    if not ok and by == "gone" then return nil, ("the program with pid %d has ended"):format(program.pid) end
    if not ok then return nil, ("the program with pid %d is being traced by process %d"):format(program.pid, by) end
    self.script, self.pid = program.script, program.pid
    for _, process in ipairs(program.processes) do self.began[process.pid] = process end
    core.spawn(ask_for_tasks, self)
    local deadline = self.from + seconds
    require("mpengine.signal").signal("INT", function() deadline = core.now() end)
    repeat
        go_on(self)
        core.sleep(math.max(0, math.min(PERIOD, deadline - core.now())))
        program:refresh()
    until core.now() >= deadline or #program.processes == 0
    return finish(self)
end

--- Traces a program that has just been started, until it ends.
---@param child mpengine.subprocess.Child
---@param script string
---@param from number when it was started
function trace.whole(child, tracer, script, from)
    local self = new(tracer)
    self.script, self.pid, self.from = script, child.pid, from
    repeat
        self.program = self.program or look.program(child.pid)
        go_on(self)
    until child:wait(PERIOD)
    return finish(self)
end

-- ---- events ----

local TEXT <const>, PROCESS <const>, EXIT <const>, START <const>, PUT <const>, GET <const> = 1, 2, 3, 4, 5, 6
local LOCK <const>, UNLOCK <const>, SITE <const>, SPAWN <const>, RUN <const>, WAIT <const> = 7, 8, 9, 10, 11, 12
local PAUSE <const>, END <const>, ITEM <const>, ITEM_END <const>, OBJECT <const> = 13, 14, 15, 16, 17
local TITLE <const> = 18

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
    p.began = at
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

local function end_process(self, p, at)
    if p.move then end_move(self, p, at) end
    end_run(self, p, at)
    for tid in pairs(p.waits) do end_wait(self, p, tid, at) end
    for handle in pairs(p.locks) do end_lock(self, p, handle, at) end
    if p.item then self:slice(p.item[2], "pool", p.pid, p.item[3], p.item[1], at) end
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

function on.item(_, p, at, number, _, item)
    p.item = { at, ("pool task %d, item %d"):format(number, item + 1), current(p) + POOL }
end

function on.item_end(self, p, at)
    if not p.item then return end
    self:slice(p.item[2], "pool", p.pid, p.item[3], p.item[1], at)
    p.threads[p.item[3]], p.item = true, nil
end

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

--- The records of one slot, whose process may be another one after a while.
function Events:read(slot, bytes)
    local at, p = 1, nil
    while at + RECORD - 1 <= #bytes do
        local when, object, more, number, what = string.unpack("<I8i8i8I4I4", bytes, at)
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
        elseif what == OBJECT then
            local name
            name, at = text_at(bytes, at)
            self.found.objects[object] = ("mp.%s %s"):format(core.kind_of(object) or "?", name)
        elseif what == EXIT and p then
            end_process(self, p, when)
            self:instant("exits", "process", p.pid, current(p), when)
            p.threads[current(p)] = true
        elseif p and HANDLERS[what] then
            if p.move then end_move(self, p, when) end
            HANDLERS[what](self, p, when, number, object, more)
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

--- The JSON text of what trace.of has found.
function trace.json(found)
    local self = setmetatable({
        found = found, out = {}, zero = found.from * 1e9 // 1 | 0, finish = found.to * 1e9 // 1 | 0, processes = {},
        begins = {}, starts = {}, puts = {}, gets = {}, acquired = {}, released = {}, flows = 0,
    }, Events)
    for slot = 0, SLOTS - 1 do
        if found.chunks[slot] then self:read(slot, table.concat(found.chunks[slot])) end
    end
    add_silent(self)
    self:connect()
    self:describe()
    local head = ('{"displayTimeUnit":"ns","otherData":{"program":%s,"pid":%d,"seconds":%.6g,"dropped":%d},'
        .. '"traceEvents":[\n'):format(json_text(found.script), found.pid,
        found.to - found.from, found.dropped)
    return head .. table.concat(self.out, ",\n") .. "\n]}\n"
end

return trace
