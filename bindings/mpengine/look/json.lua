--- JSON of the tables of a dump. A table with an element 1, or marked by json.list, is an array.
--- Texts are bytes of the program's: what is no UTF-8 is escaped as in the text form.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local json = require "mpengine.json"

local MOST <const> = 10000
local known, count = {}, 0 -- texts that were encoded before, at most so many

local function text_of(s)
    local done = known[s]
    if done then return done end
    if count >= MOST then known, count = {}, 0 end
    done = json.quote(utf8.len(s) and s or core.escaped(s))
    known[s], count = done, count + 1
    return done
end

local function number_of(n)
    if math.type(n) == "integer" then return tostring(n) end
    if n ~= n or n == math.huge or n == -math.huge then return "null" end
    return ("%.6g"):format(n)
end

local encode

local function add_list(out, list)
    out[#out + 1] = "["
    for i, value in ipairs(list) do
        if i > 1 then out[#out + 1] = "," end
        encode(out, value)
    end
    out[#out + 1] = "]"
end

local lists = setmetatable({}, { __mode = "k" }) -- lines that many tasks have in common

local function lines_of(list)
    local done = lists[list]
    if done then return done end
    local out = {}
    add_list(out, list)
    done = table.concat(out)
    lists[list] = done
    return done
end

--- There may be very many tasks, all of one form.
local function task_of(task)
    local out = {}
    if task.seconds then out[1] = (',"seconds":%.6g'):format(task.seconds) end
    if task.waits_for then out[#out + 1] = ',"waits_for":' .. text_of(task.waits_for) end
    if task.object then out[#out + 1] = ',"object":' .. text_of(task.object) end
    for _, key in ipairs { "holder", "holds" } do
        if task[key] then
            out[#out + 1] = ',"' .. key .. '":'
            encode(out, task[key])
        end
    end
    return ('{"id":%d,"name":%s,"state":"%s","stack":%s,"spawned":%s%s}'):format(task.id, text_of(task.name),
        task.state, lines_of(task.stack), lines_of(task.spawned), table.concat(out))
end

local function add_tasks(out, tasks)
    out[#out + 1] = "["
    for i, task in ipairs(tasks) do out[#out + 1] = (i > 1 and "," or "") .. task_of(task) end
    out[#out + 1] = "]"
end

local function add_table(out, t)
    local keys = {}
    for key in pairs(t) do keys[#keys + 1] = key end
    table.sort(keys)
    out[#out + 1] = "{"
    for i, key in ipairs(keys) do
        out[#out + 1] = (i > 1 and "," or "") .. text_of(key) .. ":"
        if key == "tasks" and type(t[key]) == "table" then add_tasks(out, t[key]) else encode(out, t[key]) end
    end
    out[#out + 1] = "}"
end

function encode(out, value)
    local kind = type(value)
    if kind == "string" then
        out[#out + 1] = text_of(value)
    elseif kind == "number" then
        out[#out + 1] = number_of(value)
    elseif kind == "table" then
        if value[1] ~= nil or next(value) == nil then add_list(out, value) else add_table(out, value) end
    else
        out[#out + 1] = tostring(value)
    end
end

--- The JSON text of a table, with a newline. An empty table is an array.
return function(value)
    local out = {}
    encode(out, value)
    out[#out + 1] = "\n"
    return table.concat(out)
end
