//! The `#[kernel]` attribute; use it through `gpu_rt::kernel`, which documents it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Error, FnArg, ItemFn, ReturnType, parse_macro_input, parse_quote};

/// Makes a function a kernel: what each thread of a launch runs.
///
/// The function takes nothing, or one argument by value that is `Pod` (plain bytes that mean the
/// same on the host and on the device), and returns nothing. On the host, `#[kernel] pub fn
/// name(args: Args)` becomes `pub static name: gpu_rt::Kernel<Args>`, which a launch takes; on a
/// GPU it becomes an entry point of that name.
///
/// ```
/// use gpu_rt::{Pod, Zeroable, kernel};
///
/// #[repr(C)]
/// #[derive(Clone, Copy, Pod, Zeroable)]
/// pub struct Args { n: u32 }
///
/// /// Does nothing `n` times.
/// #[kernel]
/// pub fn idle(args: Args) {
///     for _ in 0..args.n {}
/// }
///
/// assert_eq!(idle.name(), "idle");
/// idle.call(Args { n: 3 });
/// ```
///
/// Two arguments, a result, generics, or an argument that is not `Pod` do not compile:
///
/// ```compile_fail
/// #[gpu_rt::kernel]
/// pub fn two(a: u32, b: u32) {}
/// ```
/// ```compile_fail
/// #[gpu_rt::kernel]
/// pub fn result(a: u32) -> u32 { a }
/// ```
/// ```compile_fail
/// #[gpu_rt::kernel]
/// pub fn generic<T: gpu_rt::Pod>(a: T) {}
/// ```
/// ```compile_fail
/// #[gpu_rt::kernel]
/// pub fn not_pod(a: &'static u32) {}
/// ```
#[proc_macro_attribute]
pub fn kernel(
    args: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let item = parse_macro_input!(item as ItemFn);
    let expanded = if args.is_empty() {
        expand(item)
    } else {
        Err(Error::new_spanned(&item.sig, "#[kernel] takes no options"))
    };
    expanded.unwrap_or_else(Error::into_compile_error).into()
}

fn expand(item: ItemFn) -> Result<TokenStream, Error> {
    let sig = &item.sig;
    let refuse = |what: &dyn quote::ToTokens, why: &str| Err(Error::new_spanned(what, why));
    if let Some(token) = &sig.constness {
        return refuse(token, "a kernel cannot be const");
    }
    if let Some(token) = &sig.asyncness {
        return refuse(token, "a kernel cannot be async: each thread runs it to its end");
    }
    if let Some(token) = &sig.unsafety {
        return refuse(
            token,
            "a kernel is not an unsafe fn: put unsafe blocks, with their reasons, into its body",
        );
    }
    if let Some(token) = &sig.abi {
        return refuse(token, "#[kernel] chooses the ABI");
    }
    if !sig.generics.params.is_empty() || sig.generics.where_clause.is_some() {
        return refuse(&sig.generics, "a kernel cannot be generic: a launch finds it by its name");
    }
    if let ReturnType::Type(_, ty) = &sig.output {
        return refuse(
            ty,
            "a kernel returns nothing: write results to memory that its argument points to",
        );
    }
    if sig.inputs.len() > 1 {
        return refuse(
            &sig.inputs,
            "a kernel takes one argument: gather them in a #[repr(C)] struct that is Pod",
        );
    }
    let (pat, ty): (syn::Pat, syn::Type) = match sig.inputs.first() {
        None => (parse_quote!(_), parse_quote!(())),
        Some(FnArg::Typed(arg)) => ((*arg.pat).clone(), (*arg.ty).clone()),
        Some(FnArg::Receiver(receiver)) => return refuse(receiver, "a kernel is a free function"),
    };

    // What the compiler says of the item goes to the item, what it says of the code goes to the
    // code.
    let named =
        |attr: &&Attribute, names: &[&str]| names.iter().any(|name| attr.path().is_ident(name));
    let outer: Vec<_> = item
        .attrs
        .iter()
        .filter(|a| named(a, &["doc", "cfg", "deprecated", "allow", "expect"]))
        .collect();
    let inner: Vec<_> =
        item.attrs.iter().filter(|a| !named(a, &["doc", "cfg", "deprecated"])).collect();
    let (vis, name, body) = (&item.vis, &sig.ident, &item.block);
    let cfgs = item.attrs.iter().filter(|a| named(a, &["cfg"]));
    let assert_pod = quote_spanned! { ty.span() =>
        #(#cfgs)*
        const _: fn() = || {
            fn a_kernel_argument_must_be_pod<T: ::gpu_rt::Pod>() {}
            a_kernel_argument_must_be_pod::<#ty>();
        };
    };
    Ok(quote! {
        ::gpu_rt::__kernel! { { #(#outer)* } { #(#inner)* } #vis fn #name (#pat, #ty) #body }
        #assert_pod
    })
}
