--- What run and Popen are given: the words of a command and the fields that both have, checked. Messages
--- name the call and the field.
local command = {}

local function is_file_name(v) return type(v) == "string" and not v:find("\0", 1, true) end

local common = {
    cwd = { "the name of a directory", is_file_name },
    env = { "a table", function(v) return type(v) == "table" end },
    detach = { "a boolean", function(v) return type(v) == "boolean" end },
}

--- Raises for a field whose value is wrong.
function command.wrong_field(call, name, expected, value)
    local got = type(value)
    if got == "number" then got = tostring(value) elseif got == "string" then got = ("%q"):format(value) end
    error(("%s: field '%s' must be %s, got %s"):format(call, name, expected, got))
end

local function check_fields(call, opts, own, names)
    for name, value in pairs(opts) do
        local field = common[name] or own[name]
        if not field and math.type(name) ~= "integer" then
            error(("%s: unknown field '%s' (%s, cwd, env, detach expected)"):format(call, tostring(name), names))
        end
        if field and not field[2](value) then command.wrong_field(call, name, field[1], value) end
    end
end

local function check_word(call, what, value)
    if type(value) ~= "string" and type(value) ~= "number" then
        error(("%s: %s must be a string, got %s"):format(call, what, type(value)))
    end
    value = tostring(value)
    if value:find("\0", 1, true) then error(("%s: %s must not have a zero byte"):format(call, what)) end
    return value
end

local function words(call, opts)
    local argv = {}
    for i = 1, #opts do argv[i] = check_word(call, "argument " .. i, opts[i]) end
    if not argv[1] then error(call .. ": the name of a program expected as element 1") end
    return argv
end

local function environment(call, env)
    if not env then return nil end
    local list = {}
    for key, value in pairs(env) do
        local name = check_word(call, "a name in 'env'", key)
        if name == "" or name:find("=", 1, true) then
            error(("%s: a name in 'env' must not be '%s'"):format(call, name))
        end
        list[#list + 1] = name .. "=" .. check_word(call, ("'%s' in 'env'"):format(name), value)
    end
    return list
end

--- The command that opts describe.
---@param call string
---@param opts table
---@param own table<string, { [1]: string, [2]: fun(value: any): boolean }> the fields of this call alone
---@param names string their names
---@return mpengine.subprocess.Spec
function command.parse(call, opts, own, names)
    check_fields(call, opts, own, names)
    return {
        argv = words(call, opts), env = environment(call, opts.env),
        cwd = opts.cwd, detach = opts.detach, closes = true,
    }
end

return command
