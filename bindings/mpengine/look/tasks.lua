--- The tasks of a process, as it has told them (ldescribe.c): groups of tasks that are alike, and the
--- tasks of each. There may be very many, so a task has no table of its own: `each` walks over them.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local tasks = {}

---@class mpengine.look.Group
---@field name? string  absent: "Task-" and the number
---@field state "running"|"ready"|"waiting"
---@field is_main boolean
---@field stack string[]  lines, innermost first
---@field spawned string[]
---@field waits_for? string  in words, or object
---@field place? integer  where that was made
---@field object? integer  a shared object, by its handle
---@field slot? integer  of the process that goes on first
---@field holder? integer  its task there; 0: the main one, -1: none of Lua
---@field depends? integer[]  the tasks of this process that must all end first
---@field count integer  how many tasks
---@field first integer  the number of one of them
---@field least number  seconds of their waits
---@field most number

---@class mpengine.look.Tasks
---@field groups mpengine.look.Group[]
---@field count integer
---@field main? integer  the number of the main task
---@field holds table<integer, string[]>  by the number of a task: what it holds
local Tasks = {}
Tasks.__index = Tasks

tasks.metatable = Tasks

local STATES <const> = { [0] = "ready", "ready", "running", "waiting", "ended" }
local STATE <const>, IS_MAIN <const> = 7, 8
local MOMENT <const> = (1 << 20) / 1e9 -- of ldescribe.c, in seconds
local TEXT <const>, GROUP <const>, TASK <const> = ("TGt"):byte(1, 3)

function tasks.new()
    return setmetatable({
        groups = {}, count = 0, holds = {}, numbered = {}, texts = {}, lines = { [0] = {} }, pieces = {},
    }, Tasks)
end

--- The lines of a text; the same table for the same one.
local function lines_of(self, number)
    local list = self.lines[number]
    if list then return list end
    list = {}
    for line in (self.texts[number] or ""):gmatch("[^\n]+") do list[#list + 1] = (line:gsub("^%s+", "")) end
    self.lines[number] = list
    return list
end

local function some(n) return n ~= 0 and n or nil end

local function add_group(self, bytes, at)
    local state, name, stack, site, wait, place, object, slot, holder, depends, next_at = string.unpack(
        "=I4I4I4I4I4I4i8I4i4I4", bytes, at)
    local group = {
        state = STATES[state & STATE], is_main = state & IS_MAIN ~= 0, name = self.texts[name],
        stack = lines_of(self, stack), spawned = lines_of(self, site), waits_for = self.texts[wait],
        place = some(place), object = some(object), slot = slot > 0 and slot - 1 or nil,
        holder = slot > 0 and holder or nil, count = 0, least = math.huge, most = 0,
    }
    if depends > 0 then
        group.depends = { string.unpack("=" .. ("I4"):rep(depends), bytes, next_at) }
        next_at = table.remove(group.depends)
    end
    self.groups[#self.groups + 1], self.numbered[#self.numbered + 1] = group, group
    return next_at
end

local function add_task(self, bytes, at)
    local id, number, waited, next_at = string.unpack("=I4I4I4", bytes, at)
    local group = self.numbered[number]
    if group.count == 0 then group.first = id end
    if group.is_main then self.main = id end
    group.count = group.count + 1
    if waited < group.least then group.least = waited end
    if waited > group.most then group.most = waited end
    self.count = self.count + 1
    return next_at
end

--- Adds a piece of the answer.
function Tasks:add(bytes)
    local at, size = 1, #bytes
    self.pieces[#self.pieces + 1] = bytes
    while at <= size do
        local what = bytes:byte(at)
        if what == TASK then
            at = add_task(self, bytes, at + 1)
        elseif what == GROUP then
            at = add_group(self, bytes, at + 1)
        elseif what == TEXT then
            self.texts[#self.texts + 1], at = string.unpack("=s4", bytes, at + 1)
        else
            error "an answer that cannot be read"
        end
    end
end

--- All pieces are there: the groups are in the order of their first tasks.
function Tasks:finish()
    for _, group in ipairs(self.groups) do
        group.least, group.most = group.least * MOMENT, group.most * MOMENT
    end
    table.sort(self.groups, function(a, b) return a.first < b.first end)
end

local GROUP_HEAD <const> = 1 + 6 * 4 + 8 + 3 * 4

--- Calls visit(id, number of the group, wait) for each.
local function walk(self, visit)
    for _, bytes in ipairs(self.pieces) do
        local at = 1
        while at <= #bytes do
            local what = bytes:byte(at)
            if what == TASK then
                visit(string.unpack("=I4I4I4", bytes, at + 1))
                at = at + 13
            elseif what == GROUP then
                at = at + GROUP_HEAD + 4 * string.unpack("=I4", bytes, at + GROUP_HEAD - 4)
            else
                at = at + 5 + string.unpack("=I4", bytes, at + 1)
            end
        end
    end
end

--- By the number of a task: that of its group, and its wait, in one integer. Made when it is needed.
local function index_of(self)
    if self.index then return self.index end
    local index = {}
    walk(self, function(id, number, waited) index[id] = number << 32 | waited end)
    self.index = index
    return index
end

local function split(self, entry) return self.numbered[entry >> 32], (entry & 0xffffffff) * MOMENT end

--- The group of a task, and the seconds of its wait.
---@return mpengine.look.Group?
---@return number?
function Tasks:find(id)
    local entry = index_of(self)[id]
    if entry then return split(self, entry) end
end

--- Calls f(id, group, seconds) for each, in the order of their numbers.
function Tasks:each(f)
    local index, ids = index_of(self), {}
    for id in pairs(index) do ids[#ids + 1] = id end
    table.sort(ids)
    for _, id in ipairs(ids) do f(id, split(self, index[id])) end
end

--- Notes what a task holds.
function Tasks:note_held(id, title)
    local list = self.holds[id] or {}
    list[#list + 1], self.holds[id] = title, list
end

--- The name of a task.
function tasks.name(id, group) return group.name or "Task-" .. id end

return tasks
