//! `HAVING` without `GROUP BY`: MySQL takes it for a second `WHERE`, which knows the names that the `SELECT` list gives.
//! Drivers write it so to filter by what they compute: Connector/J's `getTables`.

use std::collections::HashMap;
use std::ops::ControlFlow;

use sqlparser::ast::*;

use super::rewrite::{Flow, refuse};

/// Names that are replaced in one question. Each is replaced by a whole expression, which may itself hold such names.
const REPLACED_MAX: usize = 64;
/// Functions that make one row of many.
const AGGREGATES: &[&str] =
    &["COUNT", "SUM", "MIN", "MAX", "AVG", "TOTAL", "GROUP_CONCAT", "JSON_GROUP_ARRAY", "JSON_GROUP_OBJECT"];

/// Makes such a `HAVING` a part of `WHERE`. With an aggregate it stays: it filters the one row there is, as everywhere.
/// `replaced` counts the names that were replaced so far.
pub fn without_group(select: &mut Select, replaced: &mut usize) -> Flow {
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    if grouped || aggregates(&select.projection) || aggregates(&select.having) {
        return Flow::Continue(());
    }
    let Some(mut having) = select.having.take() else { return Flow::Continue(()) };
    let given = select.projection.iter().filter_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } => Some((alias.value.to_lowercase(), expr)),
        _ => None,
    });
    let mut names = Names { given: given.collect(), within: 0, replaced };
    VisitMut::visit(&mut having, &mut names)?;
    let having = Expr::Nested(Box::new(having));
    select.selection = Some(match select.selection.take() {
        Some(before) => {
            Expr::BinaryOp { left: Box::new(Expr::Nested(Box::new(before))), op: BinaryOperator::And, right: Box::new(having) }
        }
        None => having,
    });
    Flow::Continue(())
}

/// Puts in the place of a name what the `SELECT` list gives it to, but in subqueries, which have columns of their own.
struct Names<'s> {
    given: HashMap<String, &'s Expr>,
    within: usize,
    replaced: &'s mut usize,
}

impl VisitorMut for Names<'_> {
    type Break = super::super::answer::AdminError;

    fn pre_visit_query(&mut self, _: &mut Query) -> Flow {
        self.within += 1;
        Flow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> Flow {
        self.within -= 1;
        Flow::Continue(())
    }

    // Behind the visit: what was put there is not looked through again.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        let Expr::Identifier(name) = expr else { return Flow::Continue(()) };
        let Some(meant) = self.given.get(&name.value.to_lowercase()).filter(|_| self.within == 0) else {
            return Flow::Continue(());
        };
        *self.replaced += 1;
        if *self.replaced > REPLACED_MAX {
            return refuse(format_args!(
                "HAVING without GROUP BY names computed columns more than {REPLACED_MAX} times; write the conditions in WHERE"
            ));
        }
        *expr = Expr::Nested(Box::new((*meant).clone()));
        Flow::Continue(())
    }
}

/// Whether an aggregate stands there, but in subqueries, which have rows of their own.
fn aggregates(node: &impl Visit) -> bool {
    struct Aggregates {
        within: usize,
    }
    impl Visitor for Aggregates {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.within += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.within -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(f) if self.within == 0 && f.over.is_none() => {
                    let name = f.name.to_string();
                    if AGGREGATES.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    node.visit(&mut Aggregates { within: 0 }).is_break()
}
