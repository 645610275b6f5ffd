--- JSON of the tables of a dump. A table with an element 1 is an array.
--- Texts are bytes of the program's: what is no UTF-8 is escaped as in the text form.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local text_of = require("mpengine.json").shown
local tasks = require "mpengine.look.tasks"

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

--- Of a task, by the field of its group.
local FIELDS <const> = {
    { "waits_for", "waits_for" }, { "object", "object_title" }, { "holder", "holder_is" }, { "depends", "depends" },
}

--- Behind the number and the name, what is the same in all tasks of a group.
local function rest_of(group)
    local out = { (',"state":"%s","stack":'):format(group.state) }
    encode(out, group.stack)
    out[#out + 1] = ',"spawned":'
    encode(out, group.spawned)
    for _, field in ipairs(FIELDS) do
        if group[field[2]] then
            out[#out + 1] = (',"%s":'):format(field[1])
            encode(out, group[field[2]])
        end
    end
    return table.concat(out)
end

--- There may be very many tasks, all of few forms.
local function add_tasks(out, found)
    local rest, first = {}, true
    out[#out + 1] = "["
    found:each(function(id, group, seconds)
        rest[group] = rest[group] or rest_of(group)
        local name = text_of(tasks.name(id, group))
        out[#out + 1] = ('%s{"id":%d,"name":%s%s'):format(first and "" or ",", id, name, rest[group])
        if group.state == "waiting" then out[#out + 1] = (',"seconds":%.6g'):format(seconds) end
        if found.holds[id] then
            out[#out + 1] = ',"holds":'
            encode(out, found.holds[id])
        end
        out[#out + 1] = "}"
        first = false
    end)
    out[#out + 1] = "]"
end

local function add_table(out, t)
    local keys = {}
    for key in pairs(t) do keys[#keys + 1] = key end
    table.sort(keys)
    out[#out + 1] = "{"
    for i, key in ipairs(keys) do
        out[#out + 1] = (i > 1 and "," or "") .. text_of(key) .. ":"
        encode(out, t[key])
    end
    out[#out + 1] = "}"
end

function encode(out, value)
    local kind = type(value)
    if kind == "string" then
        out[#out + 1] = text_of(value)
    elseif kind == "number" then
        out[#out + 1] = number_of(value)
    elseif getmetatable(value) == tasks.metatable then
        add_tasks(out, value)
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
