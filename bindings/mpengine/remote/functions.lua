--- Functions by their names, "module.function": what goes to other machines instead of code.
local check = require "mpengine.check"

local functions = {}

local names = setmetatable({}, { __mode = "k" }) -- function -> its name

local function search(f)
    for module, value in pairs(package.loaded) do
        if type(value) == "table" and module ~= "_G" then
            for key, member in next, value do
                if rawequal(member, f) and type(key) == "string" then return module .. "." .. key end
            end
        elseif rawequal(value, f) then
            return module
        end
    end
end

--- The name by which a function of a loaded module is found, or nil.
local function name_of(f)
    local name = names[f] or search(f)
    names[f] = name
    return name
end

--- What a closure closes over, for a message.
local function upvalues(f)
    local list = {}
    for i = 1, 255 do
        local name = debug.getupvalue(f, i)
        if not name then break end
        if name ~= "_ENV" and name ~= "" then list[#list + 1] = "'" .. name .. "'" end
    end
    return #list > 0 and ", which closes over " .. table.concat(list, ", ") or ""
end

local last -- the name of the last call

--- The name of argument n of a call, a function or a name; raises for what has none.
---@param call string
---@param n integer
---@param f function|string
---@return string
function functions.name(call, n, f)
    if type(f) == "string" then
        if f == last then return f end
        if f:find("^[%w_.%-/]+$") then
            last = f
            return f
        end
        check.wrong(call, n, ("'%s' is no name of a function (\"module.function\" expected)"):format(f))
    end
    if not check.is_callable(f) then check.fail(call, n, "function or its name", f) end
    local name = name_of(f)
    if name then return name end
    check.wrong(call, n, ("functions go to other machines by name, \"module.function\", and this one is of no module%s")
        :format(type(f) == "function" and upvalues(f) or ""))
end

local places = {} -- name -> where it was found: module, its value, key

--- The function of that name; raises when there is none.
---@param name string
---@return function
function functions.find(name)
    local place = places[name]
    if place and package.loaded[place[1]] == place[2] then
        local f = place[2][place[3]]
        if type(f) == "function" then return f end
    end
    local module, key = name:match "^(.*)%.([^.]+)$"
    local why
    if module then
        local ok, value = pcall(require, module)
        if ok and type(value) == "table" and check.is_callable(value[key]) then
            places[name] = { module, value, key }
            return value[key]
        end
        why = ok and ("module '%s' has no function '%s'"):format(module, key) or value
    end
    local ok, value = pcall(require, name)
    if ok and check.is_callable(value) then return value end
    error(("there is no function '%s' here: %s"):format(name, why or value), 0)
end

return functions
